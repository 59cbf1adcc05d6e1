"""Run llama.cpp's converter in a Python of its own; nothing of Coterie is imported here.

    python gguf_script.py CONVERTER FOLDER OUT.gguf TYPE [PRE]

CONVERTER is llama.cpp's convert_hf_to_gguf.py. Models without some blocks are given the vocabulary
of their own tokenizer, which the converter's class for them expects to be Llama 3's. PRE names the
splitting of text before the vocabulary where the converter does not know the tokenizer.
"""

import importlib
import runpy
import sys
from pathlib import Path


def patch(pre: str | None) -> None:
    """Let the converter take any byte-level BPE for models without blocks, or for all.

    Args:
        pre: How the tokenizer splits text first; None leaves it to the converter.
    """
    try:
        base = importlib.import_module("conversion.base")
        deci = importlib.import_module("conversion.deci")
    except ImportError:  # an older converter is one file
        return
    if pre is not None:
        base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    set_vocab = deci.DeciModel.set_vocab

    def of_its_tokenizer(self: object) -> None:
        folder = self.dir_model  # type: ignore[attr-defined]
        if (folder / "tokenizer.model").is_file() or not (folder / "tokenizer.json").is_file():
            set_vocab(self)
        else:
            self._set_vocab_gpt2()  # type: ignore[attr-defined]

    deci.DeciModel.set_vocab = of_its_tokenizer


def main() -> None:
    """Convert."""
    converter, folder, out, kind, *pre = sys.argv[1:]
    home = Path(converter).parent
    sys.path[:0] = [str(home), str(home / "gguf-py")]
    patch(pre[0] if pre else None)
    sys.argv = [converter, folder, "--outfile", out, "--outtype", kind]
    runpy.run_path(converter, run_name="__main__")


if __name__ == "__main__":
    main()
