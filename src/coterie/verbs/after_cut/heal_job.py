"""A healing that is about to begin: what is known of it before a weight is loaded."""

from dataclasses import dataclass

from coterie.models.files.sources import Source
from coterie.models.loaded.load import pick_device
from coterie.plain import Json
from coterie.report.schema.record import CheckpointRecord
from coterie.texts.sets import TextSet
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.shared.provenance import versions


@dataclass(frozen=True, eq=False)
class HealJob:
    """Everything about a healing that is known before a weight is loaded."""

    request: HealRequest
    cut: Source
    full: Source
    kept: tuple[int, ...]
    record: CheckpointRecord | None
    training: TextSet
    held_out: TextSet

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
