"""Where a config describes the decoder, and where it says how many layers that has."""

from transformers import PretrainedConfig

COUNT_FIELDS = (
    "decoder_layers",  # first: a sequence-to-sequence config counts its encoder elsewhere
    "num_decoder_layers",
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "num_blocks",
)
"""Names under which a config states how many decoder layers there are, the likeliest first."""


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part of a config that describes the decoder: itself, or the text part of a wrapper."""
    return config.get_text_config(decoder=True)


def layer_counts(config: PretrainedConfig) -> dict[str, int]:
    """Every field that states a number of layers, with its value, the likeliest first."""
    values = ((name, getattr(config, name, None)) for name in COUNT_FIELDS)
    return {name: value for name, value in values if isinstance(value, int) and value > 0}
