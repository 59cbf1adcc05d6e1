"""Lists of layers, as other tools write them and as other tools read them."""

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path

from coterie.errors import CutError
from coterie.plain import parsed

_EVOPRESS_WORDS = frozenset(("none", "attn", "mlp", "attn+mlp"))


def read_list(file: Path, n_players: int) -> tuple[int, ...]:
    """The layers a file says to CUT, ascending.

    Reads, as they are: EvoPress' ``layer_drop_config.txt`` (a word per layer, or
    ``model.blocks.3,True,4``), SLEB's result file (the last ``Block Removal Order``), a list of
    numbers as ShortGPT prints it, and Coterie's own ``coterie.json``.

    Args:
        file: The list.
        n_players: Number of layers of the model it is meant for.

    Raises:
        CutError: The file cannot be read as any of these, or is meant for another model.
    """
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CutError(
            f"the list {file.name!r} cannot be read ({error.strerror}): is it there, and may you"
            " read it?"
        ) from error
    except UnicodeDecodeError as error:
        raise CutError(f"the list {file.name!r} is not UTF-8 text: save it as such") from error
    layers = _evopress(text, file.name, n_players)
    if layers is None:
        layers = _sleb(text)
    if layers is None:
        layers = _record(text)
    if layers is None:
        layers = _numbers(text)
    if layers is None:
        raise CutError(
            f"{file.name!r} is no list of layers: give EvoPress' layer_drop_config.txt, SLEB's"
            " result file, a list such as [3, 7, 8], or a coterie.json"
        )
    if not layers:
        raise CutError(f"{file.name!r} names no layer to cut")
    return tuple(sorted(layers))


def _evopress(text: str, name: str, n_players: int) -> list[int] | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    joint = [re.fullmatch(r"\S+\.(\d+),(True|False),\d+", line) for line in lines]
    if lines and all(joint):
        return [int(match[1]) for match in joint if match is not None and match[2] == "True"]
    if not lines or not set(lines) <= _EVOPRESS_WORDS:
        return None
    if len(lines) != n_players:
        raise CutError(f"{name!r} speaks of {len(lines)} layers, the model has {n_players}")
    halves = [i for i, line in enumerate(lines) if line in ("attn", "mlp")]
    if halves:
        raise CutError(
            f"{name!r} cuts only the {lines[halves[0]]} block of layer {halves[0]}: a list of whole"
            " layers is needed"
        )
    return [i for i, line in enumerate(lines) if line == "attn+mlp"]


def _sleb(text: str) -> list[int] | None:
    found = re.findall(r"Block Removal Order:\s*(\[[\d,\s]*\])", text)
    return ast.literal_eval(found[-1]) if found else None  # runs are appended: the last counts


def _record(text: str) -> list[int] | None:
    try:
        record = parsed(text)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    model, cut = record.get("model"), record.get("cut")
    if isinstance(model, dict) and model.get("player_kind", "layer") != "layer":
        raise CutError(
            f"this record cuts {model['player_kind']} blocks, not whole layers: "
            "repeat its own command instead"
        )
    layers = cut.get("removed") if isinstance(cut, dict) else None
    numbers = isinstance(layers, list) and all(isinstance(layer, int) for layer in layers)
    return layers if numbers else None


def _numbers(text: str) -> list[int] | None:
    if not re.fullmatch(r"(?:[\w ]+[=:]\s*)?\[?\s*\d+(?:[\s,]+\d+)*[\s,]*\]?", text):
        return None
    return [int(number) for number in re.findall(r"\d+", text.rpartition("=")[2])]


def passthrough_yaml(model: str, kept: Sequence[int], dtype: str) -> str:
    """A mergekit config (method ``passthrough``) that stacks the kept layers of a model.

    Args:
        model: Hub id or path, as mergekit should find it.
        kept: The players that stay, ascending.
        dtype: Such as ``"bfloat16"``.
    """
    lines = ["slices:"]
    for first, stop in _runs(kept):
        lines += [
            "  - sources:",
            f"      - model: {json.dumps(model)}",
            f"        layer_range: [{first}, {stop}]",
        ]
    return "\n".join([*lines, "merge_method: passthrough", f"dtype: {dtype}"]) + "\n"


def _runs(kept: Sequence[int]) -> list[tuple[int, int]]:
    """Unbroken runs of layers as ``(first, one past the last)``."""
    runs: list[tuple[int, int]] = []
    for player in kept:
        if runs and runs[-1][1] == player:
            runs[-1] = (runs[-1][0], player + 1)
        else:
            runs.append((player, player + 1))
    return runs
