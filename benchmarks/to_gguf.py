"""Convert two cut checkpoints with llama.cpp's own converter and read the result back.

    python benchmarks/to_gguf.py LLAMA_CPP TOKENIZER

LLAMA_CPP is a checkout of llama.cpp, TOKENIZER a folder with a byte-level BPE tokenizer (that of
the reference model will do). A random Llama of six layers loses two whole layers, and, in another
copy, single blocks; both are converted in float32, and every tensor that the converter does not
permute is compared. What a model needs besides is its tokenizer: the converter knows those of
published models by a hash, so that here it is told to take any for GPT-2's.
"""

import argparse
import runpy
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from coterie.models.cutting.blocks import write_block_cut
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve


def write_checkpoints(work: Path, tokenizer: str) -> None:
    """A random Llama, cut by whole layers and cut by blocks."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(words),
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(work / "whole")
    words.save_pretrained(work / "whole")
    source = resolve(str(work / "whole"))
    write_cut(source, [0, 2, 3, 5], work / "layers")
    write_block_cut(source, {1, 4}, {0, 4}, work / "blocks")


def convert(llama_cpp: Path, folder: Path) -> Path:
    """Run the converter in this process; returns the GGUF file."""
    from conversion import base, deci

    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    deci.DeciModel.set_vocab = lambda self: self._set_vocab_gpt2()
    output = folder.with_suffix(".gguf")
    sys.argv = ["convert", str(folder), "--outtype", "f32", "--outfile", str(output)]
    runpy.run_path(str(llama_cpp / "convert_hf_to_gguf.py"), run_name="__main__")
    return output


def compare(folder: Path, converted: Path) -> str:
    """Compare the feed-forward tensors of every layer; returns one line about the file."""
    import gguf

    reader = gguf.GGUFReader(converted)
    kind = reader.fields["general.architecture"].contents()
    n_layers = reader.fields[f"{kind}.block_count"].contents()
    heads = reader.fields[f"{kind}.attention.head_count"].contents()
    width = reader.fields[f"{kind}.feed_forward_length"].contents()
    found = {tensor.name: tensor.data for tensor in reader.tensors}
    equal = 0
    for name, tensor in load_file(folder / "model.safetensors").items():
        parts = name.split(".")
        if "mlp" in parts:
            other = found[f"blk.{parts[2]}.ffn_{parts[4].removesuffix('_proj')}.weight"]
            if not np.array_equal(other.reshape(tensor.shape), tensor.numpy()):
                raise SystemExit(f"{name} differs in {converted.name}")
            equal += 1
    return (
        f"{folder.name}: {kind}, {n_layers} layers, heads {heads}, feed-forward {width}, {equal}"
        " tensors equal"
    )


def main() -> None:
    """Write, convert, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("llama_cpp", type=Path)
    parser.add_argument("tokenizer")
    asked = parser.parse_args()
    sys.path[:0] = [str(asked.llama_cpp), str(asked.llama_cpp / "gguf-py")]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_checkpoints(work, asked.tokenizer)
        for kind in ("layers", "blocks"):
            print(compare(work / kind, convert(asked.llama_cpp, work / kind)))


if __name__ == "__main__":
    main()
