"""SliceGPT: a narrower hidden width instead of fewer layers (Ashkboos et al., arXiv:2401.15024).

Between any two blocks the state may be turned by an orthogonal matrix without the model noticing,
once the scales of the norms are folded into the matrices after them. It is turned into its
principal components on the calibration texts, and the last of them are cut off. Where the turn
changes from block to block the skip connection carries a matrix, which counts as parameters.

All turns are found on the states of the full model, in one pass. The width is the largest with no
more parameters than the model without so many layers has. The checkpoint keeps its output
embedding apart from its input embedding and brings its modelling file.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from coterie.models.cutting.blocks import LLAMA_LIKE
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.cutting.write import Written, carry
from coterie.models.files.shards import DTYPES, Progress
from coterie.models.files.sources import Source
from coterie.models.files.weights import INDEX, plain_names
from coterie.rivals import _sliced as sliced
from coterie.rivals._rewriting import reader
from coterie.rivals._states import batches, layer_states
from coterie.rivals.interface import Chosen, DoesNotApply, Meter, Rewrite, Task

DAMPING = 0.01
"""Added to the diagonal of a covariance, relative to its mean: the published code's."""

MODELLING = "modeling_sliced.py"


@dataclass(frozen=True, eq=False)
class Turns:
    """Principal axes of the state, most important first, each ``(width, width)`` in columns.

    Attributes:
        before: Before each layer's attention, and after the last layer: ``n_layers + 1`` of them.
        between: Before each layer's feed-forward block.
    """

    before: list[Tensor]
    between: list[Tensor]


def choose(task: Task, meter: Meter) -> Chosen:
    """Slice to as many parameters as are left without so many layers.

    Raises:
        DoesNotApply: The model is not a plain Llama.
    """
    _check_llama(task)
    turns = principal_axes(task, meter)
    chosen: Chosen = {}
    for removal in task.removals:
        width = width_at(task, removal)
        if width < 1:
            meter.remarks.append(f"no width has as few parameters as {removal} layers fewer leave")
            continue
        # No layer goes: the parameters come out of the width of every one.
        everyone = np.ones(task.n_players, dtype=bool)
        what = f"hidden width {len(turns.before[0])} sliced to {width}, every layer kept"
        writer = partial(write, turns, width)
        chosen[removal] = Rewrite(writer, everyone, what, own_code=True)
    return chosen


def width_at(task: Task, removal: int) -> int:
    """The largest width with no more parameters than the model has without so many layers."""
    config, n = task.model.config, task.n_players
    whole = sum(p.numel() for p in task.model.parameters())
    layers = sum(p.numel() for layer in task.stack.layers for p in layer.parameters())
    target = whole - removal * layers / n
    layer = task.stack.layers[0]
    per_width = 2 * config.vocab_size + n * sum(
        matrix.weight.numel() // config.hidden_size
        for matrix in layer.modules()
        if isinstance(matrix, nn.Linear)
    )
    # per_width · w + 2 n w² ≤ target: the quadratic part is the matrices on the skip connections.
    root = (np.sqrt(per_width**2 + 8 * n * target) - per_width) / (4 * n)
    return min(int(root), config.hidden_size)


def principal_axes(task: Task, meter: Meter) -> Turns:
    """Principal axes of the states, uncentred, from one pass over the texts."""
    n = task.n_players
    squares: list[Tensor] = []
    for tokens in batches(task):
        states = _all_states(task, tokens)
        meter.ran(layer_tokens=n * tokens.numel())
        # Float64, because squares of states are summed over all tokens of all texts.
        flat = [state.flatten(0, 1).double() for state in states]
        found = [state.T @ state for state in flat]
        squares = [a + b for a, b in zip(squares, found, strict=True)] if squares else found
    axes = [_axes(square) for square in squares]
    return Turns(axes[: n + 1], axes[n + 1 :])


def _all_states(task: Task, tokens: Tensor) -> list[Tensor]:
    """The states before each attention and after the last layer, then before each feed-forward."""
    between: list[Tensor] = []

    def see(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        between.append(args[0].float())

    # What enters the second norm is the state between attention and feed-forward block.
    norms = [layer.get_submodule("post_attention_layernorm") for layer in task.stack.layers]
    handles = [norm.register_forward_pre_hook(see) for norm in norms]
    try:
        return [*layer_states(task, tokens), *between]
    finally:
        for handle in handles:
            handle.remove()


def _axes(square: Tensor) -> Tensor:
    damped = square + DAMPING * square.diagonal().mean() * torch.eye(len(square)).to(square)
    return torch.linalg.eigh(damped).eigenvectors.flip(1).float().cpu()  # ascending: turn round


def _check_llama(task: Task) -> None:
    config = task.model.config
    plain = config.model_type in LLAMA_LIKE and not getattr(config, "sliding_window", None)
    # A bias would have to be turned as well, and a sliding window is not in our modelling file.
    biases = any(name.endswith("bias") for name, _ in task.model.named_parameters())
    floating = all(p.is_floating_point() for p in task.model.parameters())
    if not plain or biases or not floating:
        raise DoesNotApply(
            f"its width is sliced only of {' and '.join(LLAMA_LIKE)} without biases, sliding window"
            f" or packed weights; this is a {config.model_type}"
        )


def write(
    turns: Turns, width: int, source: Source, output: Path, progress: Progress | None
) -> Written:
    """Write the sliced checkpoint, one file for each layer, so that one layer is held at a time.

    Args:
        turns: Principal axes of the states.
        width: Hidden width that stays.
        source: The checkpoint that is read.
        output: An empty folder.
        progress: Called with bytes written and bytes in all.
    """
    output.mkdir(parents=True, exist_ok=True)
    carried, left = carry(source.folder, output)
    raw = plain_names(source.raw_config())
    fields = _config(source, raw, width)
    text = json.dumps(raw | fields, indent=2, ensure_ascii=False) + "\n"
    (output / "config.json").write_text(text, encoding="utf-8")
    (output / MODELLING).write_bytes(Path(sliced.__file__).read_bytes())
    n_files = len(turns.between) + 1
    weight_map: dict[str, str] = {}
    n_bytes = n_values = 0
    for number, tensors in enumerate(_files(source, turns, width), start=1):
        name = f"model-{number:05}-of-{n_files:05}.safetensors"
        save_file(tensors, output / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        n_bytes += sum(tensor.nbytes for tensor in tensors.values())
        n_values += sum(tensor.numel() for tensor in tensors.values())
        if progress is not None:
            progress(n_bytes, round(n_bytes / number * n_files))
    index = {"metadata": {"total_size": n_bytes}, "weight_map": weight_map}
    (output / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    names = tuple(dict.fromkeys(weight_map.values()))
    return Written(
        files=names,
        n_bytes=n_bytes,
        n_parameters=n_values,
        carried=carried,
        left=left,
        config_changes=fields,
    )


def _config(source: Source, raw: dict[str, object], width: int) -> dict[str, object]:
    full = source.config()
    head = getattr(full, "head_dim", None) or full.hidden_size // full.num_attention_heads
    return {
        "model_type": sliced.SlicedLlamaConfig.model_type,
        "architectures": ["SlicedLlamaForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_sliced.SlicedLlamaConfig",
            "AutoModelForCausalLM": "modeling_sliced.SlicedLlamaForCausalLM",
        },
        "hidden_size": width,
        "original_hidden_size": full.hidden_size,
        "head_dim": head,
        "tie_word_embeddings": False,
    }


def _files(source: Source, turns: Turns, width: int) -> Iterator[dict[str, Tensor]]:
    """New tensors, a layer at a time, then both embeddings."""
    stack = find_disk_stack(source.entries, source.config())
    read, dtypes = reader(source), {entry.name: entry.dtype for entry in source.entries}
    before = [axes[:, :width] for axes in turns.before]
    between = [axes[:, :width] for axes in turns.between]
    # The embeddings lie beside the layers: "model." of "model.layers".
    base = stack.path.removesuffix("layers")
    embedding = f"{base}embed_tokens.weight"
    dtype = DTYPES[dtypes[embedding]]
    for layer, middle in enumerate(between):
        name = f"{stack.path}.{layer}."
        made = _layer(partial(_inside, read, name), before[layer], middle, before[layer + 1])
        yield {f"model.layers.{layer}.{k}": t.to(dtype).contiguous() for k, t in made.items()}
    # A tied model has one matrix for both embeddings; sliced, they differ.
    head = read("lm_head.weight" if "lm_head.weight" in dtypes else embedding)
    head = head * read(f"{base}norm.weight")
    yield {
        "model.embed_tokens.weight": (read(embedding) @ before[0]).to(dtype).contiguous(),
        "lm_head.weight": (head @ before[-1]).to(dtype).contiguous(),
    }


def _inside(read: Callable[[str], Tensor], layer: str, name: str) -> Tensor:
    return read(f"{layer}{name}.weight")


def _layer(
    read: Callable[[str], Tensor], before: Tensor, middle: Tensor, after: Tensor
) -> dict[str, Tensor]:
    """The tensors of one layer: scales folded in, turned and sliced at both ends of each block."""
    made = {
        "self_attn.o_proj.weight": middle.T @ read("self_attn.o_proj"),
        "mlp.down_proj.weight": after.T @ read("mlp.down_proj"),
        "attention_skip.weight": middle.T @ before,
        "mlp_skip.weight": after.T @ middle,
    }
    scale = read("input_layernorm")
    for name in ("q_proj", "k_proj", "v_proj"):
        made[f"self_attn.{name}.weight"] = (read(f"self_attn.{name}") * scale) @ before
    scale = read("post_attention_layernorm")
    for name in ("gate_proj", "up_proj"):
        made[f"mlp.{name}.weight"] = (read(f"mlp.{name}") * scale) @ middle
    return made
