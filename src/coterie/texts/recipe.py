"""Which texts choose and which judge: written down once, read wherever they are needed."""

from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from coterie.errors import TextError
from coterie.texts.packing import BosPolicy, SequenceFormat
from coterie.texts.sets import TextSet, joined, pack, split_documents, without
from coterie.texts.specs import Document, read_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CALIBRATION_ON_HUB = "allenai/c4:en"
"""What calibrates a model of the Hub when nothing else is asked for: C4, arXiv:1910.10683."""

HELD_OUT_ON_HUB = "Salesforce/wikitext:wikitext-2-raw-v1:test:text"
"""What judges a model calibrated on the default: WikiText-2, arXiv:1609.07843."""

_HELD_OUT_BY_DEFAULT = {"stdlib": "stdlib", CALIBRATION_ON_HUB: HELD_OUT_ON_HUB}


@dataclass(frozen=True, eq=False)
class TextRecipe:
    """Everything that decides which sequences calibrate and which judge.

    The same recipe always reads the same sequences. One that differs in a single respect is made by
    `dataclasses.replace`: ``replace(recipe, length=2048).read()``.

    Without a held-out text the two defaults judge by theirs (``stdlib`` by its other half, C4 by
    WikiText-2), and any other text sets half of its documents aside. Documents of a named held-out
    text that are also in the calibration text are left out of it, and counted in its description.

    Attributes:
        tokenizer: Turns text into token ids.
        calibration: The text that calibrates, written as `coterie.texts.specs` says.
        held_out: The text that judges; None for the rule above.
        sequences: Sequences that calibrate.
        held_out_sequences: Most sequences that judge; None takes all there are.
        length: Tokens of a sequence, BOS counted.
        seed: Of the generator that samples and splits documents and shuffles sequences.
        bos: What stands before every sequence.
        context: The most tokens the model reads at once, where known.
    """

    tokenizer: "PreTrainedTokenizerBase"
    calibration: str
    held_out: str | None = None
    sequences: int = 10
    held_out_sequences: int | None = 64
    length: int = 128
    seed: tuple[int, ...] = (0, 1)
    bos: BosPolicy = "auto"
    context: int | None = None

    def read(self) -> tuple[TextSet, TextSet]:
        """The texts that calibrate and the texts that judge; they share no document.

        They are read once: a second call returns the same two sets.

        Raises:
            TextError: a text that cannot be read, or is too short.
        """
        return self._drawn

    def more(self, wanted: int) -> TextSet:
        """The sequences that calibrate, and further ones of the same text after them.

        Documents that judge are left out, so that what was kept apart stays apart. Further ones are
        of other documents, while there are any; then other windows of those that calibrate.

        Args:
            wanted: Sequences in all; fewer come back where the text has no more.

        Raises:
            TextError: a text that cannot be read.
        """
        texts, _ = self.read()
        if wanted <= texts.n_sequences:
            return texts.some(np.arange(wanted))
        reading, cutting = self._generators()
        # A copy of the generator: the wider sample begins with the draws of the first one.
        again = deepcopy(reading)
        _, judging, _ = self._documents(reading)
        documents, _ = without(self._read_wide(wanted, again), judging)
        # Cut anew, a document comes back in other windows: those that calibrate come last.
        sides: tuple[list[Document], list[Document]] = ([], [])
        for document in documents:
            sides[document.key in texts.content].append(document)
        for some in sides:
            missing = wanted - texts.n_sequences
            if not some or not missing:
                continue
            with suppress(TextError):  # too short for a sequence: what there is will do
                more = pack(some, self._format, rng=cutting, at_most=wanted)
                texts = joined(texts, more.some(texts.new_of(more)[:missing]))
        return texts

    def judging(self, beside: int) -> TextSet:
        """The sequences that judge, drawn as beside so many that calibrate, where there are these.

        How many calibrate decides which sequences judge. So that few and many are judged by the
        same, they are drawn as beside the many; a document of these never judges.

        Args:
            beside: Sequences that calibrate in the recipe whose judges these are.

        Raises:
            TextError: a text that cannot be read, or is too short.
        """
        if beside > self.sequences:
            with suppress(TextError):
                return replace(self, sequences=beside).read()[1]
        return self.read()[1]

    @cached_property
    def _drawn(self) -> tuple[TextSet, TextSet]:
        self._format.check()
        # Two generators: reading more documents must not change how they are cut.
        reading, cutting = self._generators()
        choosing, judging, left_out = self._documents(reading)
        at_most = self.held_out_sequences
        chosen = pack(choosing, self._format, rng=cutting, sequences=self.sequences)
        judges = pack(judging, self._format, rng=cutting, at_most=at_most)
        if left_out:
            documents = "1 document that" if left_out == 1 else f"{left_out} documents that"
            less = f"{judges.description}, less {documents} also calibrate"
            judges = replace(judges, description=f"{less}{'s' if left_out == 1 else ''}")
        return chosen, judges

    @property
    def _format(self) -> SequenceFormat:
        return SequenceFormat(self.tokenizer, self.length, self.bos, self.context)

    def _generators(self) -> Sequence[np.random.Generator]:
        """One to sample documents, one to cut them into sequences."""
        return np.random.default_rng(self.seed).spawn(2)

    def _documents(self, rng: np.random.Generator) -> tuple[list[Document], list[Document], int]:
        """Documents that calibrate, documents that judge, and how many of these were left out."""
        # 1. Which text judges: the one that is named, or the default's counterpart.
        judge = self.held_out
        if judge is None:
            judge = _HELD_OUT_BY_DEFAULT.get(self.calibration)
        # 2. One text for both: half of its documents are set aside.
        if judge is None or (judge == self.calibration and judge != "stdlib"):
            documents = self._read_wide(self.sequences, rng)
            return *split_documents(documents, seed=int(rng.integers(2**31))), 0
        # 3. Two texts: what is in both only calibrates.
        choosing = read_documents(
            self.calibration,
            self.tokenizer,
            rng=rng,
            sequences=self.sequences,
            length=self.length,
        )
        judging = read_documents(
            judge,
            self.tokenizer,
            rng=rng,
            half="verdict",
            sequences=self.held_out_sequences,
            length=self.length,
        )
        rest, left_out = without(judging, choosing)
        if not rest:
            raise TextError(
                f"every document of the held-out text '{judge}' also calibrates: name another text,"
                " or none and half of the calibration documents are set aside"
            )
        return choosing, rest, left_out

    def _read_wide(self, sequences: int, rng: np.random.Generator) -> list[Document]:
        """Documents of the calibration text, enough for either side to take its half."""
        most = self.held_out_sequences
        both = None if most is None else 2 * max(sequences, most)
        return read_documents(
            self.calibration, self.tokenizer, rng=rng, sequences=both, length=self.length
        )
