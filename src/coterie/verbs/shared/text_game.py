"""One model on one set of texts: the engine, and the same behind the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedModel

from coterie.engine.cost import plan
from coterie.engine.interface import Engine
from coterie.game.coalitions import Coalitions, Indices
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods import SearchMethod
from coterie.game.search.task import Finalists, SearchTask
from coterie.game.utilities import Formula, floor_nll, perplexity_ratio
from coterie.models.loaded.load import attention_of
from coterie.models.loaded.stack import Stack
from coterie.plain import Json
from coterie.report.schema.basics import StreamPart
from coterie.store.stored_game import StoredGame
from coterie.texts.sets import TextSet
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.provenance import versions

ENGINE = 1
"""Raised whenever the engine observes differently, so that old facts answer no new question."""


@dataclass(frozen=True, eq=False)
class TextGame:
    """A model on texts: asked through ``game``, observations that are known cost nothing.

    Attributes:
        texts: The sequences.
        engine: What evaluates coalitions.
        game: The engine behind the store.
        n_opening_remarks: Remarks that the engine made when it was opened.
    """

    texts: TextSet
    engine: Engine
    game: StoredGame
    n_opening_remarks: int = 0

    # How `choose` plays it: see `coterie.verbs.search.game`.
    stage: ClassVar[str] = "searching, %"
    in_full: ClassVar[bool] = False
    not_finite: ClassVar[int] = 0

    @property
    def formula(self) -> Formula:
        """Contributions are in shares of the full model's perplexity."""
        return perplexity_ratio

    def others(self) -> None:
        """Texts have second texts instead."""

    @property
    def documents(self) -> Indices:
        """The document of each sequence, ``(n_sequences,)``."""
        return self.texts.documents

    @property
    def floor(self) -> float:
        """What a loss that is not finite is read as."""
        return floor_nll(self.engine.vocabulary)

    def play(self, method: SearchMethod, ledger: Ledger, task: SearchTask) -> Finalists:
        """What a method finds on the texts.

        Args:
            method: The search method.
            ledger: The account that asks the game.
            task: Sizes and bounds.
        """
        return method.play(ledger, task)

    def layer_tokens_asked(self, coalitions: Coalitions) -> int:
        """Layer-tokens that distinct coalitions ask for on all sequences."""
        return plan(coalitions, self.texts.n_sequences, self.texts.length).layer_tokens_asked

    def account(self, ledger: Ledger) -> tuple[Coalitions, int]:
        """Every distinct coalition asked in a search, and the layer-tokens these took."""
        return ledger.seen()[0], ledger.layer_sequences * self.texts.length

    def known_coalitions(self) -> set[str]:
        """Coalitions the store knows on every sequence, in their text form."""
        return self.game.known_coalitions()

    @property
    def later_remarks(self) -> list[str]:
        """What the engine had to remark since it was opened."""
        return self.engine.remarks[self.n_opening_remarks :]


def game_facts(
    prepared: Prepared, model: PreTrainedModel, stack: Stack, texts: TextSet
) -> dict[str, Json]:
    """What observations on these texts depend on; the store keeps each such game apart.

    Args:
        prepared: What the run was prepared with.
        model: The model as it was opened.
        stack: Its players.
        texts: The texts of the game.
    """
    # Never remove a field: old facts would then answer for another game.
    return {
        "engine": ENGINE,
        "weights": prepared.source.fingerprint(),
        "sequences": texts.sha256,
        "dtype": name_of(prepared.dtype),
        "device": prepared.device.type,
        "attention": attention_of(model),
        "stack": stack.path,
        "players": stack.players,
        "versions": {k: v for k, v in versions().items() if k in ("torch", "transformers")},
    }


def stream_part(games: Sequence[TextGame], distinct: int) -> StreamPart | None:
    """What reading weights from disk took, over all texts; None where they are in memory.

    Args:
        games: Of one model, on several texts.
        distinct: Coalitions that were asked, to say what each of them read.
    """
    # An engine that holds its weights in memory has no traffic.
    found = [one.engine.traffic for one in games]
    traffic = [one for one in found if one is not None]
    if not traffic:
        return None
    account = traffic[0]  # one model, so one account of what was read
    return StreamPart(
        passes=sum(one.passes for one in traffic),
        bytes_read=account.bytes_read,
        bytes_per_coalition=account.bytes_read / max(distinct, 1),
        bytes_spilled=sum(one.bytes_spilled for one in traffic),
        seconds_reading=account.seconds_reading,
        seconds_waiting=account.seconds_waiting,
        checked=account.checked,
    )
