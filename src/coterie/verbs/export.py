"""`export`: what other runtimes need of a checkpoint, checked as far as it can be without them."""

from dataclasses import asdict, dataclass
from pathlib import Path

from coterie.errors import UserError
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.cutting.lists import passthrough_yaml
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source, resolve
from coterie.models.loaded.load import load_model, load_tokenizer
from coterie.verbs.checkpoint_requests import RUNTIMES, ExportRequest
from coterie.verbs.outputs.output_file import OutputFile
from coterie.verbs.outputs.reads import reads_of
from coterie.verbs.outputs.records import read_record
from coterie.verbs.shared.entry import public

# Names of classes in config.json, in alphabetical order; extend when a runtime learns one.
_BOTH = """
ArceeForCausalLM BloomForCausalLM CohereForCausalLM Cohere2ForCausalLM DeciLMForCausalLM
DeepseekForCausalLM DeepseekV2ForCausalLM DeepseekV3ForCausalLM Ernie4_5ForCausalLM
ExaoneForCausalLM Exaone4ForCausalLM FalconForCausalLM FalconH1ForCausalLM GemmaForCausalLM
Gemma2ForCausalLM Gemma3ForCausalLM GlmForCausalLM Glm4ForCausalLM GPT2LMHeadModel
GPTBigCodeForCausalLM GPTNeoXForCausalLM GptOssForCausalLM GraniteForCausalLM GraniteMoeForCausalLM
InternLM2ForCausalLM JambaForCausalLM LlamaForCausalLM MambaForCausalLM Mamba2ForCausalLM
MistralForCausalLM MixtralForCausalLM MPTForCausalLM NemotronForCausalLM OlmoForCausalLM
Olmo2ForCausalLM OlmoeForCausalLM PhiForCausalLM Phi3ForCausalLM Qwen2ForCausalLM
Qwen2MoeForCausalLM Qwen3ForCausalLM Qwen3MoeForCausalLM SmolLM3ForCausalLM StableLmForCausalLM
Starcoder2ForCausalLM
"""
GGUF = frozenset(_BOTH.split()) | {"BaichuanForCausalLM"}
"""Architectures that llama.cpp's convert_hf_to_gguf.py reads, of those Coterie cuts."""

VLLM = frozenset(_BOTH.split()) | {"GPTJForCausalLM", "OPTForCausalLM"}
"""Architectures that vLLM runs by classes of its own, of those Coterie cuts."""


class ExportError(UserError):
    """A checkpoint that a runtime cannot take, with the reason."""


@dataclass(frozen=True)
class Export:
    """What was checked, what was written, and what is left to run.

    Attributes:
        to: One of `RUNTIMES`.
        checks: What was found in order, a line each.
        text: The mergekit config, or None.
        command: What to run where the runtime is installed.
    """

    to: str
    checks: tuple[str, ...]
    text: str | None
    command: str

    def as_json(self) -> dict[str, object]:
        """The same as plain JSON."""
        return asdict(self)


@public
def export(request: ExportRequest, *, output: Path | None = None) -> Export:
    """Check a checkpoint for a runtime, and write what can be written without it.

    >>> from coterie import CutRequest, ExportRequest, cut, export
    >>> done = cut(CutRequest("reference", layers=(3, 7)), output=folder / "small")
    >>> export(ExportRequest(folder / "small", to="gguf")).command
    'python convert_hf_to_gguf.py small --outfile small.gguf'

    Args:
        request: Which checkpoint, for which runtime.
        output: File of the mergekit config; None writes none.

    Raises:
        UserError: an unknown runtime, or a checkpoint that it cannot take.
        ModelError: not a checkpoint, or its tensors do not fill the model.
    """
    request.check()
    to, folder = request.to, Path(request.folder)
    if not folder.is_dir():
        raise ExportError(f"there is no folder '{folder.name}': name that of a checkpoint")
    if to == "mergekit":
        file = None if output is None else OutputFile(output, "--output", reads_of(request))
        return _mergekit(folder, file, request.base)
    if output is not None:
        raise ExportError("--output and --base go with --to mergekit")
    source = resolve(str(folder), trust_remote_code=request.trust_remote_code)
    architecture = (source.config().architectures or ["unknown"])[0]
    known, runtime = (GGUF, "llama.cpp's converter") if to == "gguf" else (VLLM, "vLLM")
    # Other architectures may work too, but nothing here can tell: better said than tried.
    if architecture not in known:
        raise ExportError(
            f"{architecture} is not among the architectures that {runtime} is known to take: try "
            f"the command all the same, or choose another --to ({', '.join(RUNTIMES)})"
        )
    checks = (f"{architecture} is known to {runtime}", *_whole(source), _tokens(source))
    checks += _widths(source, to)
    return Export(to, checks, None, _command(to, folder.name))


def _mergekit(folder: Path, output: OutputFile | None, base: str | None) -> Export:
    record = read_record(folder)
    if record is None or record.cut is None or record.model is None:
        raise ExportError(
            f"'{folder.name}' has no coterie.json that says what was cut: `coterie cut --mergekit` "
            "writes the config along with the cut"
        )
    model = record.model
    if model.player_kind != "layer":
        raise ExportError(
            f"'{folder.name}' lacks single {model.player_kind} blocks, and mergekit stacks "
            "whole layers only"
        )
    kept = record.cut.kept
    found = find_disk_stack(
        Source(folder.name, folder).entries, Source(folder.name, folder).config()
    )
    # The config speaks of layers by number, so files and record must agree on them.
    if found.n_players != len(kept):
        raise ExportError(
            f"coterie.json keeps {len(kept)} layers, the files hold {found.n_players}: the folder "
            "was changed since"
        )
    dtype = {"BF16": "bfloat16", "F16": "float16"}.get(model.dtype, "float32")
    text = passthrough_yaml(base or model.hub_id or model.name, kept, dtype)
    if output is not None:
        # Written aside and renamed, so that an interrupted run leaves no half config.
        output.write(text)
    name = output.path.name if output is not None else "cut.yml"
    checks = (f"{len(kept)} layers in the files, as coterie.json keeps",)
    return Export("mergekit", checks, text, f"mergekit-yaml {name} MERGED")


def _whole(source: Source) -> tuple[str, ...]:
    """Every tensor is there, has its shape, and its layer is numbered without a gap."""
    stack = find_disk_stack(source.entries, source.config())
    # Loading is the test: it refuses tensors that are missing, left over or misshaped.
    model = load_model(source, dtype=None, device="cpu")
    n_values = sum(entry.n_values for entry in source.entries)
    return (
        f"{stack.n_players} layers, {stack.path}.0 to .{stack.n_players - 1}, as the config says",
        f"{len(source.entries)} tensors, {n_values:,} values, fill a {type(model).__name__}",
    )


def _tokens(source: Source) -> str:
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


def _widths(source: Source, to: str) -> tuple[str, ...]:
    """Sizes that these runtimes care about."""
    config = source.config().get_text_config(decoder=True)
    heads = getattr(config, "num_attention_heads", None)
    found = []
    if isinstance(heads, int) and to == "vllm-check":
        # vLLM splits attention by heads, so each GPU needs the same number.
        parallel = [ways for ways in (1, 2, 4, 8) if heads % ways == 0]
        found.append(f"{heads} heads: tensor parallel over {', '.join(map(str, parallel))} GPUs")
    if to == "gguf" and (hidden := getattr(config, "hidden_size", None)):
        # llama.cpp quantizes rows in blocks of 256 or 32 values; a row must be whole blocks.
        packs = {
            256: "Q4_K and its like fit",
            32: "Q8_0 and Q4_0 fit",
            1: "no quantized format fits",
        }
        fits = next(packs[block] for block in packs if hidden % block == 0)
        found.append(f"width {hidden}: {fits} without padding")
    return tuple(found)


def _command(to: str, name: str) -> str:
    if to == "gguf":
        return f"python convert_hf_to_gguf.py {name} --outfile {name}.gguf"
    return f"vllm serve {name}"
