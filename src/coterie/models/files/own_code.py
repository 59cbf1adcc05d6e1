"""The one Python file that Coterie itself writes beside weights: it may run unasked."""

from hashlib import sha256
from pathlib import Path

from coterie.models.files.json_files import Fields, read_json

MODELLING = "modeling_decilm.py"
"""What it is called; see `coterie.models.cutting.blocks`."""

_BEFORE = frozenset(["201f12d76b23dfbb05329701fbf326b2ec5a2f4326430d162231ab7948704dd7"])
"""SHA-256 of what it was in earlier versions."""


def own_code() -> Path:
    """The file as this version writes it."""
    return Path(__file__).parents[1] / "cutting" / MODELLING


def is_own_code(folder: Path, fields: Fields) -> bool:
    """Whether a checkpoint needs no other Python than what Coterie wrote, byte by byte.

    Args:
        folder: Of the checkpoint.
        fields: Of its config.json.
    """
    table, file = fields.get("auto_map"), folder / MODELLING
    if not isinstance(table, dict) or not file.is_file() or _tokenizer_has_code(folder):
        return False
    module = MODELLING.removesuffix(".py")
    # A name such as `owner/repository--file.Class` would be fetched from elsewhere.
    if not all(str(name).startswith(f"{module}.") for name in table.values()):
        return False
    return sha256(file.read_bytes()).hexdigest() in {
        *_BEFORE,
        sha256(own_code().read_bytes()).hexdigest(),
    }


def renew_own_code(folder: Path) -> None:
    """Write the file as this version has it over that of an earlier one, where a folder has it."""
    file = folder / MODELLING
    if file.is_file() and sha256(file.read_bytes()).hexdigest() in _BEFORE:
        file.write_bytes(own_code().read_bytes())


def _tokenizer_has_code(folder: Path) -> bool:
    file = folder / "tokenizer_config.json"
    return file.is_file() and "auto_map" in read_json(file, folder.name)
