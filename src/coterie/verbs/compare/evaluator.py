"""Evaluate what a method answered: a model is made of it, and every model is evaluated alike.

A selection of layers becomes a cut model that shares the full one's weights; a selection of blocks
is judged with the others silent; a rewritten checkpoint is written aside, loaded and thrown away.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from coterie.game.coalitions import Coalition, Vector
from coterie.models.cutting.in_memory import cut_model
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.files.sources import Source
from coterie.models.loaded.blocks import block_parameters, find_players
from coterie.models.loaded.load import load_model, load_tokenizer
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import Players
from coterie.plain import Json
from coterie.repair.changes import applied
from coterie.repair.choose import repaired
from coterie.repair.repairable import WholeModel
from coterie.rivals.interface import Rewrite
from coterie.scores.sequence_losses import sequence_losses
from coterie.scores.speed import measure_speed
from coterie.scores.tasks import TaskSettings, score_tasks
from coterie.scores.timing import Load
from coterie.scratch import Scratch
from coterie.texts.sets import TextSet
from coterie.verbs.shared.defaults import context_of
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace

if TYPE_CHECKING:
    from lm_eval.api.task import Task as Zeroshot
    from transformers import PreTrainedModel

CONTEXT, NEW_TOKENS = 128, 32
"""The load of the speed: tokens read and tokens generated, one text at a time."""


@dataclass(frozen=True, eq=False)
class RepairTexts:
    """How answers are repaired: by which name, fitted on what, and selected by what."""

    name: str
    fit: TextSet
    select: TextSet


@dataclass(frozen=True, eq=False)
class Evaluator:
    """What every contestant is judged on.

    Attributes:
        texts: Name → sequences; the calibration texts are among them.
        tasks: Name asked for → its zero-shot tasks.
        limit: Only the first items of each task.
        rounds: Timed rounds; 0 times nothing.
        repair: How answers are repaired that are judged so; None where none are.
        speeds: What was timed already, by the shapes of a model's weights: models of one shape are
            equally fast, whichever layers they kept.
    """

    texts: Mapping[str, TextSet]
    tasks: "Mapping[str, Mapping[str, Zeroshot]]"
    limit: int | None
    rounds: int
    repair: RepairTexts | None = None
    speeds: dict[tuple[torch.Size, ...], dict[str, Json]] = field(default_factory=dict)

    def coalition(
        self, workspace: Workspace, coalition: Coalition, players: Players, progress: Progress
    ) -> dict[str, Json]:
        """Evaluate the model that keeps these players.

        Args:
            workspace: The opened model and its games.
            coalition: Kept players, ``(n_players,)``.
            players: What a player is.
            progress: Shows what is being done.
        """
        kept = np.flatnonzero(coalition).tolist()
        sizes = _sizes(workspace, coalition, players)
        # A cut of whole layers is a model of its own, so its speed is worth a measurement.
        if players == "layer":
            model = workspace.model if coalition.all() else cut_model(workspace.model, kept)
            return {**self._model(workspace, model, progress, timed=True), **sizes}
        stack = find_players(workspace.model, players)
        # Blocks are silenced in place, which runs no faster: no time is taken.
        with routed(workspace.model, stack, coalition.tolist()):
            return {**self._model(workspace, workspace.model, progress, timed=False), **sizes}

    def repaired(
        self, workspace: Workspace, coalition: Coalition, progress: Progress
    ) -> dict[str, Json]:
        """Evaluate the model that keeps these layers, repaired as `coterie repair` would.

        Args:
            workspace: The opened model and its games.
            coalition: Kept layers, ``(n_layers,)``.
            progress: Shows what is being done.

        Raises:
            RepairError: the model or the text does not allow it.
        """
        assert self.repair is not None
        began, kept = perf_counter(), np.flatnonzero(coalition).tolist()
        found = repaired(
            WholeModel(workspace.model, workspace.stack),
            kept,
            (self.repair.fit.tokens, self.repair.select.tokens),
            self.repair.name,
        )
        seconds = perf_counter() - began
        with applied(workspace.model, found.weights):
            judged = self.coalition(workspace, coalition, "layer", progress)
        return {**judged, "repair": found.name, "repair_seconds": seconds}

    def rewrite(self, workspace: Workspace, answer: Rewrite, progress: Progress) -> dict[str, Json]:
        """Evaluate the checkpoint that a method writes; nothing is left of it.

        Args:
            workspace: The opened model and its games.
            answer: Writes the checkpoint.
            progress: Shows what is being done.

        Raises:
            ModelError: it does not load.
        """
        prepared = workspace.prepared
        # Written to disk and loaded as a user would: what does not load has no score.
        with Scratch() as aside:
            folder = aside / "checkpoint"
            folder.mkdir()
            written = answer.write(prepared.source, folder, None)
            # A rewrite may bring our modelling file; no other code of its own is run.
            source = Source(prepared.source.name, folder, trust_remote_code=answer.own_code)
            model = load_model(source, dtype=prepared.dtype, device=prepared.device)
            judged = self._model(workspace, model, progress, timed=True)
        return {**judged, "parameters": written.n_parameters, "bytes": written.n_bytes}

    def _model(
        self,
        workspace: Workspace,
        model: "PreTrainedModel",
        progress: Progress,
        *,
        timed: bool,
    ) -> dict[str, Json]:
        losses: dict[str, Json] = {}
        for name, texts in self.texts.items():
            # As observed: how a loss that is no number is read is decided later, for all alike.
            found = sequence_losses(model, texts.tokens)
            losses[name] = found.tolist()
        judged: dict[str, Json] = {
            "losses": losses,
            "tasks": self._tasks(workspace, model, progress),
        }
        return {**judged, **(self._speed(workspace, model) if timed else _NO_SPEED)}

    def _tasks(
        self, workspace: Workspace, model: "PreTrainedModel", progress: Progress
    ) -> dict[str, Json]:
        scores: dict[str, Json] = {}
        tokenizer = load_tokenizer(workspace.prepared.source) if self.tasks else None
        for group, members in self.tasks.items():
            assert tokenizer is not None
            progress.say(f"zero-shot: {group}")
            found = score_tasks(
                members,
                model,
                tokenizer,
                TaskSettings(
                    limit=self.limit,
                    bos=workspace.request.bos_policy(),
                    context=context_of(workspace.prepared.source),
                ),
            )
            scores[group] = [score.as_json() for score in found]
        return scores

    def _speed(self, workspace: Workspace, model: "PreTrainedModel") -> dict[str, Json]:
        if not self.rounds:
            return dict(_NO_SPEED)
        shapes = tuple(parameter.shape for parameter in model.parameters())
        if shapes not in self.speeds:
            self.speeds[shapes] = self._timed(workspace, model)
        return self.speeds[shapes]

    def _timed(self, workspace: Workspace, model: "PreTrainedModel") -> dict[str, Json]:
        # A short context leaves room for few tokens: one to read, the rest to generate.
        context = context_of(workspace.prepared.source) or CONTEXT + NEW_TOKENS
        load = Load(context=max(1, min(CONTEXT, context - NEW_TOKENS)), new_tokens=NEW_TOKENS)
        load = load if context > NEW_TOKENS else Load(context=1, new_tokens=max(2, context - 1))
        # In turn with the full model, so that a busy machine slows both; itself only by itself.
        whole = model is workspace.model
        models = {"full": workspace.model, **({} if whole else {"cut": model})}
        speeds = measure_speed(
            models, load, rng=np.random.default_rng(0), rounds=self.rounds, warmup=1
        )
        full, cut = speeds["full"], speeds["full" if whole else "cut"]
        ratio = full.next_token.over(cut.next_token)
        return {
            "tokens_per_second": cut.decode_tokens_per_second,
            "speedup": ratio.median,
            "speedup_error": ratio.error,
        }


_NO_SPEED: dict[str, Json] = {"tokens_per_second": None, "speedup": None, "speedup_error": None}


def judged_losses(judged: Mapping[str, Json], text: str) -> Vector:
    """The loss of each sequence of a text, ``(n_sequences,)``, as it was observed."""
    losses = judged["losses"]
    assert isinstance(losses, Mapping)
    return np.array(losses[text], dtype=np.float64)


def _sizes(workspace: Workspace, coalition: Coalition, players: Players) -> dict[str, Json]:
    """Parameters and bytes of the checkpoint that keeps these players."""
    source = workspace.prepared.source
    if players == "layer":
        stack, kept = find_disk_stack(source.entries, source.config()), np.flatnonzero(coalition)
        places = tuple(kept.tolist())
        # From names and sizes on disk: no checkpoint is written to be weighed.
        left = [e for e in source.entries if stack.rename(e.name, places) is not None]
        return {
            "parameters": sum(entry.n_values for entry in left),
            "bytes": sum(entry.n_bytes for entry in left),
        }
    own = block_parameters(workspace.stack, find_players(workspace.model, players))
    # No format need hold a cut of blocks: bytes are in proportion to the parameters left.
    gone = round(float(own[~coalition].sum()))
    whole, n_bytes = (
        sum(getattr(entry, name) for entry in source.entries) for name in ("n_values", "n_bytes")
    )
    return {"parameters": whole - gone, "bytes": round(n_bytes * (1 - gone / whole))}
