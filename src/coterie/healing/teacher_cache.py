"""What a full model predicts on the training sequences, asked once and kept in files.

After every token the k most likely next tokens are kept, each with its log-probability in 6 bytes,
and the log of the mass on all others. A vocabulary that takes no more room than that is kept whole.
docs/teacher-cache.md describes the files, with a reader of ten lines that needs nothing of ours.
There is a file for every few sequences, so a run that is stopped goes on at the next, and a batch
reads only its own rows.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

from coterie.errors import ModelError, StudyMismatch
from coterie.game.coalitions import Indices, Vector
from coterie.healing.distill import Step
from coterie.healing.origin import HealError
from coterie.healing.teachers import Targets
from coterie.models.files.json_files import read_json
from coterie.models.files.tensors import opened, read_header, read_tensors
from coterie.models.loaded.routing import input_device
from coterie.plain import Json
from coterie.scores.predictions import fits_whole, others
from coterie.scores.sequence_losses import FORWARD_TOKENS, floored_losses
from coterie.texts.sets import Tokens

TOP = 256
"""Most likely tokens that are kept, unless asked otherwise."""

IDENTITY = "teacher.json"
"""The file that says whose predictions these are, and on which texts."""

"""Tokens of one forward pass, and of one file."""


class Predictions:
    """A teacher that is a folder of predictions.

    Args:
        folder: Where they are kept; it need not exist yet.
        shape: Shape of the training sequences, ``(n_sequences, length)``.
        top: The k most likely tokens are kept.
        identity: What decides the predictions: model, texts, dtype.
        stored: What log-probabilities are kept in.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int],
        top: int,
        identity: Mapping[str, Json],
        stored: torch.dtype = torch.float16,
    ) -> None:
        self.folder, self.top, self.stored = folder, top, stored
        kept_in = str(stored).removeprefix("torch.")
        self.identity: dict[str, Json] = {**identity, "top": top, "stored": kept_in}
        # A file holds the sequences of one forward pass: what is asked together is kept together.
        self.rows = max(1, FORWARD_TOKENS // shape[1])
        self.files = [folder / f"{at:08d}.safetensors" for at in range(0, shape[0], self.rows)]
        self._judged = folder / "judged.safetensors"

    def check(self) -> None:
        """Refuse a folder that holds anything but these predictions, whole or begun.

        Raises:
            HealError: it holds no predictions at all.
            StudyMismatch: names what differs.
        """
        # An empty folder is as good as none.
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return
        note = self.folder / IDENTITY
        if not note.is_file():
            raise HealError(
                f"--teacher-cache {self.folder} holds no predictions of a teacher: name a new"
                " folder, or one that an earlier healing has made"
            )
        before = read_json(note, str(self.folder))
        # Through JSON and back, as the file was: a tuple becomes a list.
        now = json.loads(json.dumps(self.identity))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise StudyMismatch(
                    f"--teacher-cache {self.folder} holds predictions made with {name} ="
                    f" {before.get(name)}, not {now.get(name)}: name another folder, or delete it"
                )
        for file in (*self.files, self._judged):
            self._check_whole(file)

    def _check_whole(self, file: Path) -> None:
        if not file.is_file():
            return
        try:
            read_header(file)
        except ModelError as error:
            raise HealError(
                f"--teacher-cache {self.folder} holds {file.name}, which was cut off or changed:"
                " delete that file, and it is made again"
            ) from error

    @property
    def complete(self) -> bool:
        """Whether the full model need not be asked any more."""
        return all(file.is_file() for file in (*self.files, self._judged))

    @torch.no_grad()
    def fill(self, model: PreTrainedModel, tokens: Tokens, held_out: Tokens, step: Step) -> None:
        """Ask the full model for what is not there yet.

        Args:
            tokens: The training sequences.
            held_out: The sequences that judge; only its losses on them are kept.
            step: Told the files done and the files in all.
            model: The full model.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # First whose predictions these are: a folder that was begun must never pass for another.
        text = json.dumps(self.identity, indent=2) + "\n"
        (self.folder / IDENTITY).write_text(text, encoding="utf-8")
        if not self._judged.is_file():
            losses, bad = floored_losses(model, held_out)
            found = {"losses": torch.from_numpy(losses), "not_finite": torch.tensor(bad)}
            _write(self._judged, found)
        for number, file in enumerate(self.files):
            # A caching that was stopped goes on here: whole files are not asked for again.
            if not file.is_file():
                own = tokens[number * self.rows : (number + 1) * self.rows]
                ids = torch.from_numpy(own).to(input_device(model))
                logits = model(input_ids=ids, use_cache=False).logits
                found = most_likely(log_softmax(logits.float(), dim=-1), self.top)
                if "ids" in found:  # a whole vocabulary is small, and exact
                    for name in ("log_probs", "rest"):
                        found[name] = found[name].to(self.stored)
                _write(file, {"tokens": torch.from_numpy(own.astype("int32")), **found})
            step(number + 1, len(self.files))

    def losses(self) -> tuple[Vector, int]:
        """The full model's losses on what judges, and how many were no number."""
        found = read_tensors(self._judged)
        return found["losses"].numpy(), int(found["not_finite"])

    def targets(self, rows: Indices, tokens: Tensor) -> Targets:
        """Predictions for a batch, read from the files."""
        read = [self._row(int(row)) for row in rows]
        # A vocabulary kept whole has no ids and no rest: only log-probabilities were read.
        log_probs, *named = (
            torch.cat(parts).to(tokens.device) for parts in zip(*read, strict=True)
        )
        if not named:
            return Targets(log_probs.float())
        return Targets(log_probs.float(), named[0].long(), named[1].float())

    def rest(self) -> float | None:
        """Mean mass on the tokens that are not named; None where all are."""
        files = (read_tensors(file) for file in self.files)
        masses = [found["rest"].float().exp().flatten() for found in files if "rest" in found]
        return torch.cat(masses).double().mean().item() if masses else None

    @property
    def n_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def _row(self, row: int) -> list[Tensor]:
        """Of one sequence: log-probabilities ``(length, k)``, then ids and rest if there are."""
        with opened(self.files[row // self.rows], "pt") as file:
            names = [name for name in ("log_probs", "ids", "rest") if name in file.keys()]  # noqa: SIM118
            return [file.get_slice(name)[row % self.rows] for name in names]


def most_likely(log_probs: Tensor, top: int) -> dict[str, Tensor]:
    """What is kept of log-probabilities ``(…, vocabulary)``.

    Returns:
        ``log_probs`` and int32 ``ids`` ``(…, top)`` and ``rest`` ``(…, 1)``; or ``log_probs`` as
        they are, where that takes no more room.
    """
    if fits_whole(log_probs.shape[-1], top):
        return {"log_probs": log_probs}
    kept, ids = log_probs.topk(top, dim=-1)
    return {"log_probs": kept, "ids": ids.int(), "rest": others(log_probs, ids)}


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Whole or not there, so that `complete` may count files.
    partial = path.with_suffix(".partial")
    save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, partial)
    partial.replace(path)
