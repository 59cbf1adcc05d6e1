"""What `quantize` is asked for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from coterie.verbs.after_cut.judging import JudgedAsTheCut
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.options.machine import Device
from coterie.verbs.options.source import Model, Revision, Trust
from coterie.verbs.options.texts import Lesson

if TYPE_CHECKING:
    from coterie.quantization.environment import Environment
    from coterie.quantization.schemes import Scheme


def _told_scheme() -> str:
    # Imported when a help text is read, as all of that package.
    from coterie.quantization.schemes import told_schemes

    return (
        f"{told_schemes()}. Those of torchao and bitsandbytes need the extra `quant`, those of"
        " llm-compressor --environment."
    )


@dataclass(frozen=True, kw_only=True)
class SchemeOptions(Options):
    """In which scheme, and by whom."""

    scheme: Annotated[
        str,
        Option(
            "--scheme",
            "NAME",
            _told_scheme,
        ),
    ] = "int8"
    environment: Annotated[
        str | None,
        Option(
            "--environment",
            "PYTHON",
            "For `gptq` and `awq`: the Python of an environment that has llm-compressor, which "
            "needs another transformers. Default: what COTERIE_LLMCOMPRESSOR names.",
            path=True,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class QuantizeRequest(Lesson, Revision, Trust, Device, JudgedAsTheCut, SchemeOptions, Model):
    """Which checkpoint, in which scheme, judged on which text.

    Args:
        model: Hub id, local folder or ``"reference"``; cut or whole.
        scheme: A name of `coterie.quantization.schemes.SCHEMES`.
        environment: The Python that has llm-compressor, for its schemes; None is what the
            environment variable names.
        text: Text that calibrates a scheme of llm-compressor; None is what would heal the model.
        calibration: Text that chose the cut; without ``held_out``, part of it judges.
        held_out: Text that judges; None is what judged the cut.

    >>> QuantizeRequest("small", scheme="int8").command()
    'coterie quantize small --scheme int8 --device auto'
    """

    VERB = "quantize"
    HELP: ClassVar = {
        "text": "For `gptq` and `awq`: text that calibrates, as in `heal --text`. Documents that "
        "also judge are left out.",
    }
    # Said in the command that a report shows, even where they have their default values.
    TOLD: ClassVar = frozenset({"scheme", "device"})

    def maker(self) -> "Scheme | Environment":
        """What quantizes: a library that is here, or another Python.

        Raises:
            UserError: the scheme cannot be had, in one line that says what can.
        """
        # Imported when asked for: they load torch, and a help text needs none of it.
        from coterie.models.loaded.load import pick_device
        from coterie.quantization.environment import find_environment
        from coterie.quantization.schemes import SCHEMES, SchemeError, find_scheme

        scheme = find_scheme(self.scheme, pick_device(self.device).type)
        if scheme.elsewhere:
            return find_environment(self.environment, self.scheme)
        # What would have no effect is refused, so that nobody believes it had one.
        for name, value in (("text", self.text), ("environment", self.environment)):
            if value is not None:
                others = " and ".join(one.name for one in SCHEMES.values() if one.elsewhere)
                raise SchemeError(f"--{name} is for {others}: leave it out for {self.scheme}")
        return scheme
