"""What `prune` does beside the cut, checked before anything is loaded."""

from dataclasses import dataclass

from coterie.errors import RepairError, UserError
from coterie.quantization.schemes import SCHEMES, SchemeError
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.prune.request import PruneRequest


@dataclass(frozen=True)
class After:
    """What follows the cut.

    Attributes:
        scheme: To quantize in, or None.
        quantize_first: The game is played on the quantized model.
        heal_steps: Steps of healing, or None.
        text: To heal with, and to calibrate what needs that; None is the default of `heal`.
        repair: Which repair, ``"auto"``, or None.
        repair_named: The repair was asked for: where it cannot be made, the run ends.
    """

    scheme: str | None = None
    quantize_first: bool = False
    heal_steps: int | None = None
    text: str | None = None
    repair: str | None = None
    repair_named: bool = True

    @classmethod
    def of(cls, request: PruneRequest) -> "After":
        """What a request asks for beside the cut."""
        # Without a text of its own, healing takes its default one.
        return cls(
            request.quantize,
            request.quantize_first,
            request.heal,
            repair=request.repair_asked,
            repair_named=request.repair is not None,
        )

    def check(self, request: PruneRequest) -> None:
        """Refuse what needs no model to be refused.

        Raises:
            UserError: one line.
        """
        trains = self.scheme is not None or self.quantize_first or self.heal_steps is not None
        if request.stream and trains:
            raise UserError(
                "--stream never holds a whole model, as --quantize and --heal do: cut first, then "
                "give the folder to `coterie quantize` or `coterie heal`"
            )
        if request.names_several and (self.scheme is not None or self.heal_steps is not None):
            raise UserError(
                f"--device {request.device} names several devices, and --quantize and --heal use"
                " one: name one of them"
            )
        if self.repair is not None:
            self._check_repair(request, self.repair)
        if self.quantize_first and self.scheme is None:
            raise SchemeError("--quantize-first does not say how: add --quantize int8")
        if self.scheme is not None:
            QuantizeRequest(request.model, scheme=self.scheme, device=request.device).maker()
            if self.quantize_first and SCHEMES[self.scheme].elsewhere:
                raise SchemeError(
                    f"--quantize-first plays the game on the quantized model, and {self.scheme} is"
                    " loaded by the environment of llm-compressor alone: quantize after the cut"
                )
        if self.heal_steps is not None:
            HealRequest(request.model, steps=self.heal_steps).check()

    def _check_repair(self, request: PruneRequest, method: str) -> None:
        RepairRequest(request.model, method=method).check()
        if request.players != "layer":
            raise RepairError(
                f"--repair {method} refits layers around layers that went, and --players"
                f" {request.players} cuts blocks: leave out one of the two"
            )
        if self.quantize_first:
            raise RepairError(
                f"--repair {method} refits the plain weights, and --quantize-first cuts quantized"
                " ones: leave out one of the two"
            )
