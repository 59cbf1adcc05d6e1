"""Who reads a cut checkpoint rightly, from what was seen of each runtime."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig

from coterie.models.families.fields import text_config
from coterie.models.runtimes.block_rules import BlockShape, misread_blocks
from coterie.models.runtimes.names import RUNTIMES
from coterie.models.runtimes.serving import serving_of
from coterie.models.runtimes.table import REMARKS, SEEN

RIGHTLY, WRONGLY, UNKNOWN = "rightly", "wrongly", "not run"


@dataclass(frozen=True)
class Verdict:
    """How one runtime reads one checkpoint.

    Attributes:
        runtime: Its name, out of `RUNTIMES`.
        reads: ``"rightly"``, ``"wrongly"`` or ``"not run"``.
        remark: On what condition, or why not; None where nothing is to be said.
    """

    runtime: str
    reads: str
    remark: str | None = None


def layer_verdicts(
    config: PretrainedConfig, kept: Sequence[int], n_layers: int
) -> tuple[Verdict, ...]:
    """How each runtime reads a model cut by whole layers.

    Args:
        config: Of the whole model.
        kept: The layers that stay.
        n_layers: Layers of the whole model.
    """
    return tuple(_of_layers(runtime, config, kept, n_layers) for runtime in RUNTIMES)


def _of_layers(
    runtime: str, config: PretrainedConfig, kept: Sequence[int], n_layers: int
) -> Verdict:
    if runtime == "transformers":
        return Verdict(runtime, RIGHTLY)
    serving = serving_of(config, (runtime,), n_layers)
    why = serving.misread(kept)
    if why is not None and serving.misread(kept, carried=True) is None and runtime == "llama.cpp":
        return Verdict(runtime, RIGHTLY, "if converted by `coterie export --to gguf`")
    if why is not None:
        return Verdict(runtime, WRONGLY, why.partition(" ")[2])
    model_type = text_config(config).model_type
    if model_type in SEEN[runtime]:
        return Verdict(runtime, RIGHTLY, REMARKS.get(runtime, {}).get(model_type))
    return Verdict(runtime, UNKNOWN)


def block_verdicts(shape: BlockShape) -> tuple[Verdict, ...]:
    """How each runtime reads a model that lacks single blocks."""
    return tuple(_of_blocks(runtime, shape) for runtime in RUNTIMES)


def _of_blocks(runtime: str, shape: BlockShape) -> Verdict:
    why = misread_blocks(runtime, shape)
    if why is not None:
        return Verdict(runtime, WRONGLY, why)
    return Verdict(runtime, RIGHTLY, _CONDITIONS.get(runtime))


_CONDITIONS = {
    "transformers": "with trust_remote_code=True: the code lies beside the weights",
    "vllm": "with --trust-remote-code",
    "llama.cpp": "if converted by `coterie export --to gguf`",
    "ollama": "if converted by `coterie export --to ollama`; its server was not run",
}
