"""The ways to quantize a checkpoint, as one table: what each is, who does it, and where it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING

from coterie.errors import UserError

if TYPE_CHECKING:
    from transformers.utils.quantization_config import QuantizationConfigMixin


INTERPRETER = "COTERIE_LLMCOMPRESSOR"
"""The environment variable that names the Python of llm-compressor, unless a command does."""


class SchemeError(UserError):
    """A scheme that is unknown, or that cannot run here."""


@dataclass(frozen=True)
class Scheme:
    """One way to quantize.

    Attributes:
        name: As asked for.
        what: What becomes of the weights, in a few words.
        library: The package that does it, and must be there to load the result.
        devices: Kinds of device it runs on.
        config: Makes what `from_pretrained` takes as its ``quantization_config``; None where the
            library does it in an environment of its own.
    """

    name: str
    what: str
    library: str
    devices: tuple[str, ...]
    config: "Callable[[], QuantizationConfigMixin] | None" = None

    @property
    def elsewhere(self) -> bool:
        """Whether another Python does it (`coterie.quantization.environment`)."""
        return self.config is None


# Libraries are imported when asked for: the table is read where none of them is installed.
def _int8() -> "QuantizationConfigMixin":
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _int8_dynamic() -> "QuantizationConfigMixin":
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8DynamicActivationInt8WeightConfig())


def _fp8() -> "QuantizationConfigMixin":
    from torchao.quantization import Float8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Float8WeightOnlyConfig())


def _int4() -> "QuantizationConfigMixin":
    from torchao.quantization import Int4WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int4WeightOnlyConfig())


def _llm_int8() -> "QuantizationConfigMixin":
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def _nf4() -> "QuantizationConfigMixin":
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")


_AO, _BNB, _COMPRESSOR, _BOTH = "torchao", "bitsandbytes", "llm-compressor", ("cpu", "cuda")

SCHEMES = {
    scheme.name: scheme
    for scheme in (
        # torchao: on CPU and CUDA, but for 4 bits, whose kernels are for CUDA alone.
        Scheme("int8", "8-bit weights, one scale per output", _AO, _BOTH, _int8),
        Scheme("int8-dynamic", "8-bit weights and activations", _AO, _BOTH, _int8_dynamic),
        Scheme("fp8", "8-bit floating-point weights", _AO, _BOTH, _fp8),
        Scheme("int4", "4-bit weights in groups of 128", _AO, ("cuda",), _int4),
        # bitsandbytes: a scheme is its published method.
        Scheme("llm-int8", "LLM.int8, arXiv:2208.07339", _BNB, _BOTH, _llm_int8),
        Scheme("nf4", "4-bit normal floats, arXiv:2305.14314", _BNB, _BOTH, _nf4),
        # llm-compressor: it needs another transformers, so an environment of its own does it.
        Scheme("gptq", "4-bit weights by GPTQ, arXiv:2210.17323", _COMPRESSOR, ()),
        Scheme("awq", "4-bit weights by AWQ, arXiv:2306.00978", _COMPRESSOR, ()),
    )
}
"""Every scheme by its name; those of one library stand together."""


def find_scheme(name: str, device: str) -> Scheme:
    """The scheme of this name, if it runs on this kind of device and its library is there.

    What another Python does is found whatever is here.

    Raises:
        SchemeError: with the schemes that would do.
    """
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise SchemeError(f"--scheme {name} is unknown: there is {', '.join(SCHEMES)}")
    if scheme.elsewhere:
        return scheme
    if device not in scheme.devices:
        raise SchemeError(
            f"--scheme {name} does not run on {device}, only on {', '.join(scheme.devices)}:"
            f" on {device} there is {', '.join(_running(device)) or 'none'}"
        )
    if find_spec(scheme.library) is None:
        raise SchemeError(
            f"--scheme {name} needs {scheme.library}, which is not installed:"
            " pip install 'coterie[quant]'"
        )
    return scheme


def _running(device: str) -> list[str]:
    return [name for name, scheme in SCHEMES.items() if device in scheme.devices]


def told_schemes() -> str:
    """Every scheme with its library, as a help text says it.

    >>> told_schemes()
    '`int8`, `int8-dynamic`, `fp8`, `int4` (CUDA) by torchao; `llm-int8`, `nf4` by ...'
    """
    by = groupby(SCHEMES.values(), lambda scheme: scheme.library)
    return "; ".join(f"{', '.join(map(_told, schemes))} by {library}" for library, schemes in by)


def _told(scheme: Scheme) -> str:
    return f"`{scheme.name}`" + (" (CUDA)" if scheme.devices == ("cuda",) else "")
