"""Train the deeper model: `python benchmarks/models/novels.py --text DIR --work DIR`.

A 24-layer Llama of 5.0 M parameters learns English novels, by the recipe of the reference model
(`tools.train_reference`). DIR holds plain-text books named `Author_Title_YEAR.txt`, as in
the collection "100 English novels" (computationalstylistics, commit 143e601875d7); those published
up to 1900 are used, so the text is free everywhere. Every eighth book is held out: half of those to
calibrate on, half to judge on (`novels/README.md` names them), written to WORK as
`calibration.jsonl`
and `verdict.jsonl` for the benchmarks, beside `training.jsonl`. One CPU thread, an hour.
"""

import json
import re
from pathlib import Path

from tools.train_reference import arguments, train
from transformers import LlamaConfig

LAST_YEAR = 1900
CONFIG = LlamaConfig(
    vocab_size=4096,
    hidden_size=128,
    intermediate_size=320,
    num_hidden_layers=24,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=512,
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=0,
    rms_norm_eps=1e-5,
)


def books(folder: Path) -> list[Path]:
    """The books old enough, by name."""
    years = {path: re.search(r"_(\d{4})$", path.stem) for path in sorted(folder.glob("*.txt"))}
    return [path for path, year in years.items() if year and int(year[1]) <= LAST_YEAR]


def split(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Books to train on, to calibrate on and to judge on."""
    every = books(folder)
    held_out = every[::8]
    return [b for b in every if b not in held_out], held_out[::2], held_out[1::2]


def read(paths: list[Path], length: int = 50_000) -> list[tuple[str, str]]:
    """Documents of about `length` characters, so that windows and shuffling mix the books."""
    documents = []
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        documents += [
            (f"{path.stem}:{start}", text[start : start + length])
            for start in range(0, len(text), length)
        ]
    return documents


def main() -> None:
    """Train the model and write it to WORK/model."""
    parser = arguments(__doc__.split("\n\n")[0], tokens=3.6e6, batch=8)
    parser.add_argument("--text", type=Path, required=True, help="folder of books, *_YEAR.txt")
    options = parser.parse_args()
    training, calibration, verdict = split(options.text)
    options.work.mkdir(parents=True, exist_ok=True)
    for name, paths in (("training", training), ("calibration", calibration), ("verdict", verdict)):
        rows = [json.dumps({"text": text}) + "\n" for _, text in read(paths, 20_000)]
        (options.work / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    train(CONFIG, read(training), read(verdict), options)


if __name__ == "__main__":
    main()
