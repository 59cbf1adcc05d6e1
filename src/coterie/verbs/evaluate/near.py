"""How near models are to the first of them: KL, first choices, and what they write."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coterie.models.loaded.load import load_model
from coterie.plain import Json, finite
from coterie.report.schema.generation import BesidePart
from coterie.scores.generation import NEW_TOKENS, PROMPT_TOKENS, PROMPTS
from coterie.scores.predictions import AT_MOST, TOP
from coterie.store.observations import Store
from coterie.store.sqlite_file import noted_in
from coterie.texts.sets import TextSet
from coterie.verbs.evaluate.nearness import Compared, Noted, generation_of, held_beside, noted
from coterie.verbs.evaluate.subject import Subject


@dataclass(eq=False)
class Nearness:
    """What is held against the first model, while the models take their turns in memory.

    Attributes:
        texts: Held-out sequences that all are compared on.
        found: What is known, by the name of the model.
    """

    first: Subject
    texts: TextSet
    book: Store
    found: dict[str, BesidePart] = field(default_factory=dict)
    _missing: dict[str, int] = field(default_factory=dict)
    _noted: Noted | None = None
    _compared: dict[str, Compared] = field(default_factory=dict)

    @classmethod
    def of(cls, subjects: Sequence[Subject], texts: Sequence[TextSet], book: Store) -> "Nearness":
        """What the store knows, and what is missing.

        Models with another tokenizer are left out: what they predict cannot be paired.

        Args:
            subjects: The models; the first is held against.
            texts: The first text as each model reads it.
            book: Keeps what is found.
        """
        near = cls(subjects[0], texts[0], book)
        for subject, own in zip(subjects[1:], texts[1:], strict=True):
            if own.sha256 != near.texts.sha256:
                continue
            number = book.game(_identity(near.first, subject, own))
            known = book.note(number, "beside")
            if isinstance(known, Mapping):
                with noted_in(book.path):
                    near.found[subject.source.name] = BesidePart.from_json(known)
            else:
                near._missing[subject.source.name] = number
        return near

    def see(self, subject: Subject) -> None:
        """Note what a model predicts and writes, while it is in memory; if it is needed."""
        if not self._missing:
            return
        if subject is self.first:
            self._noted = noted(subject.model, self.texts, subject.tokenizer)
        elif subject.source.name in self._missing and self._noted is not None:
            subject.progress.say(f"letting {subject.source.name} write")
            self._compared[subject.source.name] = held_beside(self._noted, subject.model)

    def finish(self) -> dict[str, BesidePart]:
        """Let the first model read what the others wrote; all others have left memory."""
        if not self._compared or self._noted is None:
            return self.found
        first = self.first
        gc.collect()
        first.progress.say(f"{first.source.name} reads what the others wrote")
        reader = load_model(first.source, dtype=first.dtype, device=first.device)
        for name, second in self._compared.items():
            part = BesidePart(
                model="full",
                kl=finite(second.kl),
                top1=finite(second.top1),
                sequences=len(self._noted.kept.tokens),
                generation=generation_of(self._noted, second, reader, first.tokenizer),
            )
            self.book.write_note(self._missing[name], "beside", part.as_json())
            self.found[name] = part
        return self.found


def _identity(first: Subject, subject: Subject, texts: TextSet) -> dict[str, Json]:
    """All that what is found depends on."""
    return {
        **subject.identity(),
        "kind": "beside",
        "first": first.source.fingerprint(),
        "sequences": texts.sha256,
        "tokenizer": subject.tokenizer_identity,
        # The prompts are put through the template of the first model; each ends by its own.
        "writing": [first.writing, subject.writing],
        "measures": [PROMPTS, PROMPT_TOKENS, NEW_TOKENS, TOP, AT_MOST],
    }
