"""Run llama.cpp's converter in a Python of its own; nothing of Coterie is imported here.

    python gguf_script.py CONVERTER FOLDER OUT.gguf TYPE [PRE]

CONVERTER is llama.cpp's convert_hf_to_gguf.py. Models without some blocks are given the vocabulary
of their own tokenizer, which the converter's class for them expects to be Llama 3's. PRE names the
splitting of text before the vocabulary where the converter does not know the tokenizer.
"""

import importlib
import runpy
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


def patch(pre: str | None) -> None:
    """Let the converter take the vocabularies that it would refuse for no good reason.

    Args:
        pre: How the tokenizer splits text first: any model is then given the vocabulary of its own
            byte-level BPE; None leaves both to the converter.
    """
    if "sentencepiece" not in sys.modules and find_spec("sentencepiece") is None:
        # The converter imports it before it looks whether there is a tokenizer.model at all, and
        # transformers, which asks what is installed, must have asked by then.
        importlib.import_module("transformers.utils").is_sentencepiece_available()
        stand_in = ModuleType("sentencepiece")
        stand_in.__spec__ = ModuleSpec("sentencepiece", None)
        stand_in.SentencePieceProcessor = _needs_sentencepiece  # type: ignore[attr-defined]
        sys.modules["sentencepiece"] = stand_in
    try:
        base = importlib.import_module("conversion.base")
        deci = importlib.import_module("conversion.deci")
    except ImportError:  # an older converter is one file
        return
    if pre is not None:
        _take_any_bpe(base.TextModel, pre)
    set_vocab = deci.DeciModel.set_vocab

    def of_its_tokenizer(self: object) -> None:
        folder = self.dir_model  # type: ignore[attr-defined]
        if (folder / "tokenizer.model").is_file() or not (folder / "tokenizer.json").is_file():
            set_vocab(self)
        else:
            self._set_vocab_gpt2()  # type: ignore[attr-defined]

    deci.DeciModel.set_vocab = of_its_tokenizer


def _take_any_bpe(model: type, pre: str) -> None:
    prepare = model.prepare_metadata  # type: ignore[attr-defined]

    def prepared(self: object, *args: object, **kwargs: object) -> None:
        type(self).set_vocab = lambda of: of._set_vocab_gpt2()  # type: ignore[attr-defined]
        prepare(self, *args, **kwargs)

    model.prepare_metadata = prepared  # type: ignore[attr-defined]
    model.get_vocab_base_pre = lambda self, tokenizer: pre  # type: ignore[attr-defined]


def _needs_sentencepiece(*_: object, **__: object) -> None:
    raise SystemExit("this tokenizer.model needs the package sentencepiece: pip install it")


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
