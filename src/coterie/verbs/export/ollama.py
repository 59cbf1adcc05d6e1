"""`export --to ollama`: a Modelfile that names the GGUF file, the chat template and stop tokens."""

import json
import shlex
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from coterie.models.files.json_files import read_json
from coterie.models.files.sources import Source
from coterie.models.loaded.load import load_tokenizer
from coterie.verbs.checkpoint_requests import ExportRequest
from coterie.verbs.export import checks
from coterie.verbs.export.chat_template import MessageFrame, frame_of
from coterie.verbs.export.gguf import check_gguf
from coterie.verbs.export.result import Export
from coterie.verbs.outputs.output_file import OutputFile
from coterie.verbs.outputs.reads import reads_of


def to_ollama(request: ExportRequest, source: Source, output: Path | None) -> Export:
    """Write a Modelfile; the GGUF file it names is written by ``--to gguf``.

    Args:
        request: The checkpoint.
        source: Its files.
        output: The Modelfile; None writes none, and it is only shown.

    Raises:
        ExportError: llama.cpp or ollama would not read the checkpoint rightly.
    """
    found = check_gguf(source, carried=True)
    # Its own engine tells layers by their number, whatever a file says.
    found.append(checks.readable(source, "ollama"))
    tokenizer = load_tokenizer(source)
    frame = frame_of(tokenizer)
    found.append(_told(frame, tokenizer))
    gguf = source.folder.with_name(f"{source.folder.name}.gguf")
    text = modelfile(gguf, frame, stop_tokens(source, tokenizer, frame))
    if output is not None:
        OutputFile(output, "--output", reads_of(request)).write(text)
    if not gguf.is_file():
        found.append(f"{gguf.name} is not there yet: coterie export {source.folder} --to gguf")
    name = str(output or "Modelfile")
    command = ["ollama", "create", source.folder.name.lower(), "-f", name]
    return Export("ollama", tuple(found), text, shlex.join(command))


def modelfile(gguf: Path, frame: MessageFrame | None, stops: list[str]) -> str:
    """The content of a Modelfile.

    Args:
        gguf: The file with the weights.
        frame: What stands around messages; None leaves the template to the GGUF file.
        stops: Texts at which an answer ends.
    """
    lines = [f"FROM {gguf}"]
    if frame is not None:
        lines.append(f'TEMPLATE """{frame.in_go()}"""')
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    return "\n".join(lines) + "\n"


def stop_tokens(
    source: Source, tokenizer: PreTrainedTokenizerBase, frame: MessageFrame | None
) -> list[str]:
    """Tokens that end an answer: those of the generation config, and what ends one in a chat.

    Args:
        source: The checkpoint.
        tokenizer: Its tokenizer.
        frame: What stands around messages, where that is known.
    """
    numbers = [tokenizer.eos_token_id]
    file = source.folder / "generation_config.json"
    if file.is_file():
        ends = read_json(file, source.name).get("eos_token_id")
        numbers += ends if isinstance(ends, list) else [ends]
    found = [tokenizer.convert_ids_to_tokens(one) for one in numbers if _is_token(one, tokenizer)]
    if frame is not None:
        ids = tokenizer(frame.assistant[1], add_special_tokens=False)["input_ids"][:1]
        special = [one for one in ids if one in tokenizer.all_special_ids]
        found += [tokenizer.convert_ids_to_tokens(one) for one in special]
    return [str(one) for one in dict.fromkeys(found)]


def _is_token(number: object, tokenizer: PreTrainedTokenizerBase) -> bool:
    return isinstance(number, int) and 0 <= number < len(tokenizer)


def _told(frame: MessageFrame | None, tokenizer: PreTrainedTokenizerBase) -> str:
    if frame is not None:
        return "the chat template in ollama's language renders conversations as the model's own"
    if not tokenizer.chat_template:
        return "the model has no chat template"
    return "the chat template does more than frame messages: it is left to the GGUF file"
