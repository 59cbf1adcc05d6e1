"""Resolve the model and choose the texts: everything about a run that needs no weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from coterie.errors import RepairError, TextError
from coterie.game.search.methods import SEARCH_METHODS
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.families.fields import text_config
from coterie.models.loaded.load import Source, load_tokenizer, pick_devices, resolve
from coterie.plain import Json
from coterie.repair.amount import sequences_in_a_game
from coterie.report.schema.basics import TextPart
from coterie.texts.likeness import unlikeness
from coterie.texts.recipe import TextRecipe
from coterie.texts.sets import TextSet
from coterie.verbs.shared.defaults import check_rows, context_of, default_calibration, dtype_of
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.provenance import versions
from coterie.verbs.shared.request import HELD_OUT_SEQUENCES, JUDGED_BESIDE, LENGTH, Request
from coterie.verbs.shared.serving import check_serving
from coterie.verbs.shared.settings import check_feasible, check_savable, sketch


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything about a run that is known before a weight is loaded."""

    request: Request
    source: Source
    n_players: int
    locked: tuple[int, ...]
    devices: tuple[torch.device, ...]
    """Of one type; each holds a copy of the model where they are several."""
    dtype: torch.dtype
    dtype_reason: str
    recipe: TextRecipe
    """What the texts are drawn by, to draw others that keep to the same rules."""
    calibration: TextSet
    held_out: TextSet
    second: TextSet | None = None
    """Texts that decide between finalists, beside those that calibrate; none for some methods."""
    pruning: TextSet | None = None
    """The calibration texts and more of them: a pruner measures what layers are given on all, and
    allocations are judged on some; none where nothing of the kind is done."""

    @property
    def measured(self) -> TextSet:
        """The texts that are pruned on: the calibration texts where there are no others."""
        return self.pruning or self.calibration

    @property
    def device(self) -> torch.device:
        """The first device: whatever is not the game runs there."""
        return self.devices[0]

    @property
    def where(self) -> str:
        """All devices, in words."""
        return ", ".join(map(str, self.devices))

    def identity(self, asked: Mapping[str, Json] | None = None) -> dict[str, Json]:
        """What decides the answer: the request, the weights, the texts, the version.

        Args:
            asked: What was asked, as plain data, where a verb asks for more than ``request``.
        """
        # Identity is what decides the answer; two runs that share it would end alike.
        decisive = dict(self.request.as_json() if asked is None else asked)
        # Memory and the number of devices decide how it is run, and not what comes out.
        decisive.pop("state_memory", None)
        decisive["device"] = self.device.type
        return {
            **decisive,
            "weights": self.source.fingerprint(),
            "calibration_sha256": self.calibration.sha256,
            "held_out_sha256": self.held_out.sha256,
            "second_sha256": None if self.second is None else self.second.sha256,
            "coterie": versions()["coterie"],
        }

    def study_settings(self) -> dict[str, Json]:
        """What a named study is begun under, in the words that stores hold since the first one."""
        # A single device stands in stores as it was typed: `auto` stays `auto`.
        if self.request.names_several:
            return self.identity()
        return {**self.identity(), "device": self.request.device}


def prepare(request: Request, *, progress: Progress, choosing: bool = True) -> Prepared:
    """Resolve the model, choose the texts, and refuse whatever needs no weights to be refused.

    Args:
        request: What was asked.
        progress: Told what is being done.
        choosing: Players are chosen from, so there must be some, and a budget that suffices.

    Raises:
        UserError: whatever cannot be used, in one line.
    """
    # In the order of cost: what is cheap to refuse is refused first.
    devices = pick_devices(request.device)
    source = resolve(request.model, request.revision, trust_remote_code=request.trust_remote_code)
    n_players, locked = sketch(request, source)
    if request.cuts:  # what could not be saved is refused too
        check_savable(request, source, n_players, locked)
        check_serving(request, source, n_players, locked)
    if choosing:
        check_feasible(request, n_players, locked)
    find_disk_stack(source.entries, source.config())  # refuses what could not be cut afterwards
    dtype, reason = dtype_of(request.dtype, devices[0])
    progress.say(f"reading texts for {source.name}")
    recipe = recipe_of(request, source)
    finalists = not SEARCH_METHODS[request.plays()].ranks
    calibration, held_out, second = _texts(recipe, finalists=finalists, progress=progress)
    if (remark := unlikeness(calibration, held_out)) is not None:
        progress.say(f"warning: {remark}")
    for texts in (calibration, held_out):
        check_rows(source, texts.tokens)
    return Prepared(
        request=request,
        source=source,
        n_players=n_players,
        locked=locked,
        devices=devices,
        dtype=dtype,
        dtype_reason=reason,
        recipe=recipe,
        calibration=calibration,
        held_out=held_out,
        second=second,
    )


def recipe_of(request: Request, source: Source) -> TextRecipe:
    """The texts that a request asks for, for the model of this source.

    Args:
        request: Names the texts, or leaves them to the defaults.
        source: The model: its tokenizer, and how much it reads at once.
    """
    context = context_of(source)
    return TextRecipe(
        load_tokenizer(source),
        request.calibration or default_calibration(source),
        request.held_out,
        sequences=request.sequences_asked(),
        held_out_sequences=HELD_OUT_SEQUENCES,
        length=min(LENGTH, context or LENGTH) if request.length is None else request.length,
        seed=(request.seed, 1),
        bos=request.bos_policy(),
        context=context,
    )


def held_out_by_default(request: Request, source: Source, progress: Progress) -> TextSet:
    """What judges a model where a request names no text: the same for every verb.

    Args:
        request: Of a search; it may name texts.
        source: The model.
        progress: Told what is being done.
    """
    finalists = not SEARCH_METHODS[request.plays()].ranks
    return _texts(recipe_of(request, source), finalists=finalists, progress=progress)[1]


def _texts(
    recipe: TextRecipe, *, finalists: bool, progress: Progress
) -> tuple[TextSet, TextSet, TextSet | None]:
    """The texts that calibrate, that judge, and that decide between finalists where any do."""
    # One draw judges, whatever the method: the full model reads the same in every verb.
    # A ranking decides nothing between finalists and needs no second texts.
    if not finalists:
        return recipe.read()[0], recipe.judging(JUDGED_BESIDE), None
    # Twice as many are drawn and divided by document, so no document is on both sides.
    twice = replace(recipe, sequences=2 * recipe.sequences)
    try:
        both = twice.read()[0]
    except TextError:
        calibration, second = recipe.read()[0], None
        held_out = recipe.judging(JUDGED_BESIDE)
    else:
        calibration, second = divided(both, recipe.sequences)
        held_out = twice.judging(JUDGED_BESIDE)
    if second is None:
        progress.say(
            "warning: too little text for a second set: the calibration texts decide alone"
        )
    return calibration, held_out, second


def divided(texts: TextSet, n: int) -> tuple[TextSet, TextSet | None]:
    """Whole documents with the first ``n`` sequences between them, and the rest if there is one."""
    # At least n sequences, by whole documents.
    counts = np.bincount(texts.documents)
    # Early documents have the most sequences: every other one keeps the two sides alike.
    order = np.r_[0 : len(counts) : 2, 1 : len(counts) : 2]
    enough = int(np.searchsorted(counts[order].cumsum(), n)) + 1
    first = np.isin(texts.documents, order[:enough])
    rest = ~first
    return texts.some(np.flatnonzero(first)[:n]), (
        texts.some(np.flatnonzero(rest)) if rest.any() else None
    )


def fitting_texts(prepared: Prepared, most: int = 0, aside: int = 0) -> TextSet:
    """Sequences of the calibration text that neither choose, decide nor judge.

    They are of other documents than those that choose and decide, while there are any.

    Args:
        prepared: The texts of the run.
        most: How many at most, where there are more than a game needs.
        aside: Of how many sequences the caller sets one aside, which is drawn on top; 0 of none.

    Raises:
        RepairError: fewer are left than a game needs.
    """
    chosen = [prepared.calibration, *([] if prepared.second is None else [prepared.second])]
    length = prepared.calibration.length
    wanted = sequences_in_a_game(text_config(prepared.source.config()), length)
    most = max(most, -(-wanted * aside // (aside - 1)) if aside else wanted)
    # Drawn as the texts of the run were, so that what judges stays apart.
    n_read = len(chosen) * prepared.recipe.sequences
    more = replace(prepared.recipe, sequences=n_read).more(n_read + most)
    for texts in chosen:
        more = more.some(texts.new_of(more))
    if more.n_sequences < wanted:
        raise RepairError(
            f"the calibration text has {more.n_sequences} sequences of {length} tokens beside those"
            f" that choose, and {wanted} are needed to refit layers: give more text (--calibration)"
        )
    # Other windows of the documents that choose would be repaired on them: they come last.
    again = more.holding(frozenset[str]().union(*(texts.content for texts in chosen)))
    return more.some(np.argsort(again, kind="stable")[:most])


def text_part(texts: TextSet) -> TextPart:
    """A set of sequences as the record names it."""
    return TextPart(
        description=texts.description,
        sha256=texts.sha256,
        sequences=texts.n_sequences,
        length=texts.length,
        documents=len(texts.document_names),
        bos=texts.bos,
    )
