"""Which files beside the weights belong to a checkpoint: a list of what does, not of what does not.

Training data, logs, notes and keys lie in such folders too; whatever is not named here stays where
it is, out of every checkpoint that is written and every upload.
"""

import re
from fnmatch import fnmatch
from pathlib import Path

from coterie.errors import ModelError
from coterie.models.files.json_files import Fields, read_json

TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "vocab.bpe", "encoder.json", "merges.txt", "bpe.codes"),
    *("tokenizer.model", "tokenizer.model.v[0-9]*", "tekken.json", "spiece.model", "spm.model"),
    *("sentencepiece.bpe.model", "sentencepiece.model", "spm_char.model", "*.tiktoken"),
    *("tiktoken.model", "qwen.tiktoken", "normalizer.json", "emoji.json", "dict.txt"),
    *("byte_maps.json", "entity_vocab.json", "word_shape.json", "word_pronunciation.json"),
    *("prophetnet.tokenizer", "vocab-src.json", "vocab-tgt.json", "source.spm", "target.spm"),
    *("target_vocab.json", "rwkv_vocab_v*.txt"),
)
"""Files of tokenizers, by the names that tokenizer classes give them."""

TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")

PROCESSORS = (
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    *("image_processor_config.json", "feature_extractor_config.json"),
    "audio_tokenizer_config.json",
)

NOTICES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "COPYING*")
"""Licences and the like, whose names are written in many ways; plain texts only."""

_NOTICE_ENDS = ("", ".txt", ".md", ".rst", ".pdf", ".html")

_NAMING_CODE = ("config.json", "tokenizer_config.json", *PROCESSORS, "generation_config.json")
_RELATIVE = re.compile(r"^\s*(?:from\s+\.(\w*)\s+import\s+(.+)|import\s+\.(\w+)\s*)$", re.MULTILINE)

_BLOBS = "blobs"
"""Folder of the Hub's cache to which the files of a checkpoint there are links."""

BYTES_CARRIED = 200 * 2**20
"""Largest file that is carried."""


def belongs(name: str) -> bool:
    """Whether a file of this name, relative to the folder, is part of a checkpoint beside weights.

    `config.json`, the index and the model's own Python are not meant here: see `own_code`.
    """
    if _is_notice(name):
        return "/" not in name and Path(name).suffix.lower() in _NOTICE_ENDS
    named = ("generation_config.json", *TOKENIZER, *TEMPLATES, *PROCESSORS)
    alike = [pattern for pattern in named if pattern.count("/") == name.count("/")]
    return any(fnmatch(name, pattern) for pattern in alike)


def carried_files(folder: Path) -> tuple[str, ...]:
    """The files of a checkpoint beside weights, config and index, by name relative to the folder.

    Raises:
        ModelError: One of them that names Python files cannot be read, or one is a link to a file
            of another name elsewhere.
    """
    inside = [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]
    names = {file.relative_to(folder).as_posix() for file in inside if _is_small_file(file)}
    found = sorted({name for name in names if belongs(name)} | (names & python_files(folder)))
    for name in found:
        if _is_notice(name):
            _check_link(folder, name)
    return tuple(found)


def python_files(folder: Path) -> set[str]:
    """The Python files that the model brings along: those under `auto_map`, and what they import.

    Raises:
        ModelError: A file that may name them cannot be read.
    """
    found: set[str] = set()
    waiting = [name for name in _NAMING_CODE if (folder / name).is_file()]
    modules = {module for name in waiting for module in _modules(read_json(folder / name, name))}
    while modules:
        name = f"{modules.pop()}.py"
        if name in found or not (folder / name).is_file():
            continue
        found.add(name)
        modules |= _imported((folder / name).read_text(encoding="utf-8", errors="replace"))
    return found


def _modules(fields: Fields) -> set[str]:
    """Modules that an `auto_map` names; not those of others (``owner/name--module``)."""
    table = fields.get("auto_map")
    values = list(table.values()) if isinstance(table, dict) else []
    names = [one for value in values for one in (value if isinstance(value, list) else [value])]
    plain = [name for name in names if isinstance(name, str) and "--" not in name]
    return {name.rpartition(".")[0] for name in plain if re.fullmatch(r"\w+\.\w+", name)}


def _imported(code: str) -> set[str]:
    found: set[str] = set()
    for module, names, plain in _RELATIVE.findall(code):
        if module or plain:
            found.add(module or plain)
        else:  # from . import one, other
            found |= {name.split(" as ")[0].strip(" ()") for name in names.split(",")}
    return found


def _is_notice(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in NOTICES)


def _check_link(folder: Path, name: str) -> None:
    """Refuse a licence that is a link to a key: nobody reads it, and it may be published.

    Links to the Hub's cache (`blobs`) and to the same file of another checkpoint are in use.
    """
    file = folder / name
    leads = file.resolve()
    inside = folder.resolve() in leads.parents
    if inside or leads.name == file.name or leads.parent.name == _BLOBS:
        return
    raise ModelError(
        f"{name} of {folder.name!r} is a link to {leads.name}, a file of another name outside of"
        " the folder: put the file itself there, or take the link away"
    )


def _is_small_file(file: Path) -> bool:
    return file.is_file() and file.stat().st_size <= BYTES_CARRIED
