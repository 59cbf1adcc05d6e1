"""A repair or a healing that is about to begin: what is known of it before a weight is loaded."""

from dataclasses import dataclass

from coterie.healing.origin import Descent
from coterie.models.files.sources import Source
from coterie.models.loaded.load import pick_device
from coterie.plain import Json
from coterie.report.schema.record import CheckpointRecord
from coterie.texts.sets import TextSet
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.shared.provenance import versions


@dataclass(frozen=True, eq=False, kw_only=True)
class CutJob:
    """A cut checkpoint, the model it was cut from, and the texts that teach and that judge.

    Attributes:
        came: Which players of the full model the cut one has, and what a repair changed.
        record: The `coterie.json` of the cut checkpoint; None where it has none.
    """

    request: HealRequest | RepairRequest
    cut: Source
    full: Source
    came: Descent
    record: CheckpointRecord | None
    training: TextSet
    held_out: TextSet

    @property
    def kept(self) -> tuple[int, ...]:
        """Players of the full model that the cut one has, 0-based."""
        return self.came.kept

    def identity(self) -> dict[str, Json]:
        """What decides the outcome."""
        return {
            # Texts and weights by their digests: a name may come to mean something else.
            **self.request.as_json(),
            "device": pick_device(self.request.device).type,
            "cut": self.cut.fingerprint(),
            "full": self.full.fingerprint(),
            "text_sha256": self.training.sha256,
            "held_out_sha256": self.held_out.sha256,
            "coterie": versions()["coterie"],
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class HealJob(CutJob):
    """A healing that is about to begin.

    Attributes:
        watched: Sequences unlike those that are learned from; None where no text is watched.
    """

    request: HealRequest
    watched: TextSet | None = None

    def identity(self) -> dict[str, Json]:
        """What decides the outcome."""
        whole = super().identity()
        if self.watched is not None:
            whole["watched_sha256"] = self.watched.sha256
        return whole


@dataclass(frozen=True, eq=False, kw_only=True)
class RepairJob(CutJob):
    """A repair that is about to begin.

    Attributes:
        selection: The texts that say which repair is applied; none of them is fitted on.
    """

    request: RepairRequest
    selection: TextSet

    def identity(self) -> dict[str, Json]:
        """What decides the outcome."""
        return {**super().identity(), "selection_sha256": self.selection.sha256}
