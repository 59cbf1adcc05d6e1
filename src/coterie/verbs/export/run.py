"""`export`: a checkpoint checked for another runtime, and written in the form that it reads."""

import shlex
from pathlib import Path

from coterie.models.files.sources import Source, resolve
from coterie.models.runtimes.architectures import VLLM, VLLM_BY_TRANSFORMERS
from coterie.verbs.checkpoint_requests import ExportRequest
from coterie.verbs.export import checks
from coterie.verbs.export.gguf import to_gguf
from coterie.verbs.export.mergekit import to_mergekit
from coterie.verbs.export.ollama import to_ollama
from coterie.verbs.export.result import Export, ExportError
from coterie.verbs.shared.entry import public

__all__ = ["Export", "ExportError", "export"]


@public
def export(request: ExportRequest, *, output: Path | None = None) -> Export:
    """Check a checkpoint for a runtime, and write what can be written for it.

    >>> from coterie import CutRequest, ExportRequest, cut, export
    >>> done = cut(CutRequest("reference", layers=(3, 7)), output=folder / "small")
    >>> export(ExportRequest(folder / "small", to="gguf")).command
    'python convert_hf_to_gguf.py .../small --outfile .../small.gguf'

    Args:
        request: Which checkpoint, for which runtime.
        output: File of what is written: the mergekit config, the GGUF, the Modelfile.

    Raises:
        UserError: an unknown runtime, or a checkpoint that it cannot take.
        ModelError: not a checkpoint, or its tensors do not fill the model.
    """
    request.check()
    folder = Path(request.folder)
    if not folder.is_dir():
        raise ExportError(f"there is no folder '{folder.name}': name that of a checkpoint")
    if request.to == "mergekit":
        return to_mergekit(request, output)
    source = resolve(str(folder), trust_remote_code=request.trust_remote_code)
    makers = {"gguf": to_gguf, "ollama": to_ollama, "vllm-check": _to_vllm}
    return makers[request.to](request, source, output)


def _to_vllm(request: ExportRequest, source: Source, output: Path | None) -> Export:
    if output is not None:
        raise ExportError("vllm-check writes nothing: leave out --output")
    found = [
        checks.known_architecture(source, VLLM, "vLLM") + _by(source),
        checks.readable(source, "vllm"),
        *checks.whole(source),
        checks.tokens(source),
    ]
    heads = getattr(source.config().get_text_config(decoder=True), "num_attention_heads", None)
    if isinstance(heads, int):
        # vLLM splits attention by heads, so each GPU needs the same number.
        parallel = [ways for ways in (1, 2, 4, 8) if heads % ways == 0]
        found.append(f"{heads} heads: tensor parallel over {', '.join(map(str, parallel))} GPUs")
    trust = ["--trust-remote-code"] if source.raw_config().get("auto_map") else []
    command = ["vllm", "serve", str(source.folder), *trust]
    return Export("vllm-check", tuple(found), None, shlex.join(command))


def _by(source: Source) -> str:
    architecture = (source.config().architectures or [""])[0]
    known = architecture in VLLM_BY_TRANSFORMERS
    return ", which runs it by transformers' own code" if known else ""
