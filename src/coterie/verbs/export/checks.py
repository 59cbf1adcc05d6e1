"""What can be known of a checkpoint without the runtime that is to take it."""

from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.models.loaded.load import load_model, load_tokenizer
from coterie.models.runtimes.block_rules import BlockShape, gone_blocks, misread_blocks
from coterie.models.runtimes.serving import serving_of
from coterie.verbs.export.result import ExportError


def known_architecture(source: Source, known: frozenset[str], runtime: str) -> str:
    """The line that says the runtime has a class for it.

    Args:
        source: The checkpoint.
        known: Architectures that the runtime takes.
        runtime: What a message calls it.

    Raises:
        ExportError: it is not among those.
    """
    architecture = (source.config().architectures or ["unknown"])[0]
    # Other architectures may work too, but nothing here can tell: better said than tried.
    if architecture not in known:
        raise ExportError(
            f"{architecture} is not among the architectures that {runtime} is known to take: try "
            "its own command all the same, or choose another --to"
        )
    return f"{architecture} is known to {runtime}"


def whole(source: Source) -> tuple[str, ...]:
    """Every tensor is there, has its shape, and its layer is numbered without a gap."""
    stack = find_disk_stack(source.entries, source.config())
    # Loading is the test: it refuses tensors that are missing, left over or misshaped.
    model = load_model(source, dtype=None, device="cpu")
    n_values = sum(entry.n_values for entry in source.entries)
    return (
        f"{stack.n_players} layers, {stack.path}.0 to .{stack.n_players - 1}, as the config says",
        f"{len(source.entries)} tensors, {n_values:,} values, fill a {type(model).__name__}",
    )


def tokens(source: Source) -> str:
    """Every token has a row of the embedding: converters count both, and stop where they differ."""
    tokenizer = load_tokenizer(source)
    last = max(tokenizer.get_vocab().values(), default=-1)
    rows = int(getattr(text_config(source.config()), "vocab_size", 0))
    if last >= rows:
        raise ExportError(
            f"'{source.name}' has tokens up to number {last} and {rows} rows of the embedding: give"
            " every token a row (transformers' resize_token_embeddings), or take out added tokens"
        )
    return f"{last + 1:,} tokens, each with its row of the {rows:,} of the embedding"


def readable(source: Source, runtime: str, *, carried: bool = False) -> str:
    """The line that says the runtime reads the layers for what they are.

    Args:
        source: The checkpoint.
        runtime: Its name, out of `coterie.models.runtimes.names.RUNTIMES`.
        carried: Whether the file that is written will say what layers are.

    Raises:
        ExportError: it would read them wrongly; names the layers whose cut would help.
    """
    raw, config = source.raw_config(), source.config()
    n_layers = find_disk_stack(source.entries, config).n_players
    if raw.get("block_configs"):
        gone = gone_blocks(raw, "attention"), gone_blocks(raw, "ffn")
        why = misread_blocks(runtime, BlockShape.of(config.to_dict(), (*range(n_layers),), *gone))
        if why is not None:
            raise ExportError(f"{runtime} would read '{source.name}' wrongly: it {why}")
        return f"{runtime} does without the blocks that are gone"
    serving = serving_of(config, (runtime,), n_layers)
    why = serving.misread(range(n_layers), carried=carried)
    if why is None:
        return f"{n_layers} layers, of the kinds that {runtime} takes them for"
    near = serving.nearest(range(n_layers))
    gone_too = [] if near is None else sorted(set(range(n_layers)) - set(near))
    written = serving.misread(range(n_layers), carried=True) is None and runtime == "llama.cpp"
    ways = ["name the converter, so that the file says it: --converter PATH"] if written else []
    if near is not None:
        ways.append(f"cut this checkpoint's layers {','.join(map(str, gone_too))} too")
    raise ExportError(
        f"'{source.name}' would be read wrongly: {why}; {', or '.join(ways) or 'take another'}"
    )
