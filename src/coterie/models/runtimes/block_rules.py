"""Which cuts of single blocks a runtime reads rightly, in the block format of Nemotron-NAS.

Seen by loading such cuts there (`docs/runtimes.md`). The format is described in
`coterie.models.cutting.blocks`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from coterie.models.runtimes.names import RUNTIMES

ROUNDED_TO = 256
"""The format gives a block's width as a multiple of the model's, rounded up to this."""


@dataclass(frozen=True)
class BlockRule:
    """What a runtime asks of a model whose layers lack blocks.

    Attributes:
        first_attention: The first layer must have its attention block.
        every_mlp: Every layer must have its feed-forward block.
        rounded: The feed-forward width must be a multiple of `ROUNDED_TO`.
        even_heads: The width of a head must be that of the model over the number of heads.
    """

    first_attention: bool = False
    every_mlp: bool = False
    rounded: bool = True
    even_heads: bool = False

    def locks(self, n_layers: int) -> dict[str, str]:
        """Blocks that must stay, by label, each with the reason."""
        found = {}
        if self.first_attention:
            found["0.attention"] = "it counts positions for the whole model there"
        if self.every_mlp:
            reason = "a layer without it loses its attention too there"
            found |= {f"{layer}.mlp": reason for layer in range(n_layers)}
        return found


BLOCK_RULES: dict[str, BlockRule] = {
    "transformers": BlockRule(rounded=False),
    "vllm": BlockRule(first_attention=True),
    "llama.cpp": BlockRule(first_attention=True, every_mlp=True, even_heads=True),
    "mlx": BlockRule(),
    "ollama": BlockRule(first_attention=True, every_mlp=True, even_heads=True),
}


@dataclass(frozen=True)
class BlockShape:
    """What a model with missing blocks looks like.

    Attributes:
        kept: Layers of which at least one block stays, by their number before the cut.
        attention: Layers that lack their attention block.
        mlp: Layers that lack their feed-forward block.
        width: Of the feed-forward blocks.
        even_heads: Whether a head is as wide as the model over the number of heads.
    """

    kept: tuple[int, ...]
    attention: frozenset[int]
    mlp: frozenset[int]
    width: int
    even_heads: bool

    @classmethod
    def of(
        cls,
        fields: Mapping[str, object],
        kept: tuple[int, ...],
        attention: Collection[int],
        mlp: Collection[int],
    ) -> "BlockShape":
        """The shape of a cut, from the config of the whole model.

        Args:
            fields: Of the config, as plain data.
            kept: Layers of which at least one block stays.
            attention: Layers that lose their attention block.
            mlp: Layers that lose their feed-forward block.
        """
        hidden, heads = int(str(fields["hidden_size"])), int(str(fields["num_attention_heads"]))
        head = fields.get("head_dim") or hidden // heads
        return cls(
            kept,
            frozenset(attention) & frozenset(kept),
            frozenset(mlp) & frozenset(kept),
            int(str(fields["intermediate_size"])),
            int(str(head)) * heads == hidden,
        )


def gone_blocks(fields: Mapping[str, object], block: str) -> frozenset[int]:
    """Layers that lack a block (``"attention"`` or ``"ffn"``) already, by the config of a model."""
    blocks = fields.get("block_configs")
    if not isinstance(blocks, list):
        return frozenset()
    return frozenset(i for i, one in enumerate(blocks) if one[block]["no_op"])


def misread_blocks(runtime: str, shape: BlockShape) -> str | None:
    """Why a runtime does not read a cut of blocks rightly; None where it does."""
    rule = BLOCK_RULES[runtime]
    if rule.rounded and shape.width % ROUNDED_TO:
        return f"rounds the feed-forward width {shape.width} up to a multiple of {ROUNDED_TO}"
    if rule.even_heads and not shape.even_heads:
        return "takes a head to be as wide as the model over the number of heads"
    if rule.every_mlp and shape.mlp:
        return f"skips the attention of layer {min(shape.mlp)} too, which lacks its feed-forward"
    if rule.first_attention and shape.kept and shape.kept[0] in shape.attention:
        return "fails where the first layer has no attention block"
    return None


def block_locks(runtimes: Collection[str], n_layers: int) -> dict[str, str]:
    """Blocks that must stay for all of some runtimes, by label, each with the reason."""
    found: dict[str, str] = {}
    for name in RUNTIMES:
        if name in runtimes:
            found |= {
                label: f"{name}: {reason}"
                for label, reason in BLOCK_RULES[name].locks(n_layers).items()
            }
    return found
