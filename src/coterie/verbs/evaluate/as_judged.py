"""The very texts that judged a checkpoint, drawn again: a report is repeated to the digit."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.errors import UserError
from coterie.models.files.places import REFERENCE
from coterie.models.files.sources import Source
from coterie.report.schema.record import CheckpointRecord
from coterie.texts.sets import TextSet
from coterie.verbs.after_cut.complete import completed
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.after_cut.texts import held_out_texts
from coterie.verbs.outputs.records import read_record
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.shared.prepared import held_out_by_default
from coterie.verbs.shared.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class JudgingTexts:
    """What judges where no text is named: what judged the first model, else what `prune` takes.

    Attributes:
        record: Of the first model; None where nothing judged it before.
        asked: What `quantize` would ask of it: the texts of the cut, wherever they lie.
        first: The first model.
    """

    record: CheckpointRecord | None
    asked: QuantizeRequest
    first: Source
    progress: Progress

    @classmethod
    def of(cls, first: Source, store: Path | str | None, progress: Progress) -> "JudgingTexts":
        """The texts that judge a model and those beside it.

        Args:
            first: The first model.
            store: SQLite file in which paths are noted; None is the user's.
            progress: Told what is being done.

        Raises:
            UserError: the texts lay on this machine, and it is not known where.
        """
        record = read_record(first.folder)
        if record is None or last_digest(record) is None:
            record = None
        asked = QuantizeRequest(str(first.folder))
        return cls(record, completed(asked, store) if record else asked, first, progress)

    def read(self, source: Source, tokenizer: "PreTrainedTokenizerBase") -> TextSet:
        """The sequences, as a model's tokenizer cuts them.

        Args:
            source: The model that reads them.
            tokenizer: Its tokenizer.

        Raises:
            UserError: they are no longer those that judged the first model.
        """
        if self.record is None:
            of_reference = default_text([self.first]) == "stdlib"
            request = PruneRequest(
                source.name, remove=1, calibration="stdlib" if of_reference else None
            )
            return held_out_by_default(request, source, self.progress)
        named = self.first.name if self.record.model is None else self.record.model.name
        found = held_out_texts(self.asked, self.record, named, self.first, tokenizer)
        # Another model may read the same text by another tokenizer.
        if source is self.first and found.sha256 != last_digest(self.record):
            raise UserError(
                f"the texts that judged {self.first.name!r} are not what they were: a file has"
                " changed, or another tokenizer reads it; name a text with --text"
            )
        return found


def default_text(sources: list[Source]) -> str:
    """`stdlib` where the first is the reference model or made of it, else WikiText-2."""
    record = read_record(sources[0].folder)
    made_of = record.model.name if record and record.model else sources[0].name
    return "stdlib" if REFERENCE in (sources[0].name, made_of) else "wikitext-2"


def last_digest(record: CheckpointRecord) -> str | None:
    """The digest of the texts that judged a checkpoint last; None where none did."""
    text = record.after[-1].held_out if record.after else record.held_out
    return None if text is None else text.sha256
