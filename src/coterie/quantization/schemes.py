"""The ways to quantize a checkpoint, as one table: what each is, who does it, and where it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from transformers import BitsAndBytesConfig, TorchAoConfig
from transformers.utils.quantization_config import QuantizationConfigMixin

from coterie.errors import UserError


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
        config: Makes what `from_pretrained` takes as its ``quantization_config``.
    """

    name: str
    what: str
    library: str
    devices: tuple[str, ...]
    config: Callable[[], QuantizationConfigMixin]


def _int8() -> QuantizationConfigMixin:
    # Imported when asked for: the table is read where no library is installed.
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _int8_dynamic() -> QuantizationConfigMixin:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return TorchAoConfig(Int8DynamicActivationInt8WeightConfig())


def _fp8() -> QuantizationConfigMixin:
    from torchao.quantization import Float8WeightOnlyConfig

    return TorchAoConfig(Float8WeightOnlyConfig())


def _int4() -> QuantizationConfigMixin:
    from torchao.quantization import Int4WeightOnlyConfig

    return TorchAoConfig(Int4WeightOnlyConfig())


def _llm_int8() -> QuantizationConfigMixin:
    return BitsAndBytesConfig(load_in_8bit=True)


def _nf4() -> QuantizationConfigMixin:
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")


_AO, _BNB, _BOTH = "torchao", "bitsandbytes", ("cpu", "cuda")

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
    )
}
"""Every scheme by its name."""

ELSEWHERE = {
    "gptq": "4-bit weights by GPTQ, arXiv:2210.17323",
    "awq": "4-bit weights by AWQ, arXiv:2306.00978",
}
"""What llm-compressor does in an environment of its own (`compressor`), by name."""


def find_scheme(name: str, device: str) -> Scheme:
    """The scheme of this name, if it runs on this kind of device and its library is there.

    Raises:
        SchemeError: with the schemes that would do.
    """
    scheme = SCHEMES.get(name)
    if scheme is None:
        raise SchemeError(
            f"--scheme {name} is unknown: there is {', '.join([*SCHEMES, *ELSEWHERE])}"
        )
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
