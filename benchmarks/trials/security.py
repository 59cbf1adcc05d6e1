"""Checkpoints and texts that would run code, leave their folder, or speak in a report."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from .acts import no_network
from .commands import Ended, run
from .home import VERBS, Home
from .trial import Trial

SECRET = "hf_" + "s3cretsecretsecretsecretsecretsecret"
MARKUP = "<script>alert(1)</script>"

Attack = Callable[[Path, Path, list[str]], None]
"""Given the copy of a model, the file that its code would make, and the command line."""


def security(home: Home, number: int) -> Trial:
    """Something hostile is read without the flag: nothing runs, nothing leaves, nothing is told."""
    kinds = list(ATTACKS)
    kind = kinds[number % len(kinds)]
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder) / "place"
        place.mkdir()
        model, mark = (
            Path(shutil.copytree(home.model, Path(folder) / "model")),
            Path(folder) / "ran",
        )
        line = home.line("prune", place / "out", model)
        ATTACKS[kind](model, mark, line)
        ended = run(line, place, no_network, HF_TOKEN=SECRET, OPENAI_API_KEY=SECRET)
        faults = ended.faults() + told_of(place, ended, home)
        if mark.exists():
            faults.append("code has run")
    return {"what": kind, "exit": ended.code, "faults": faults,
            "said": ended.said.strip()[-300:]}  # fmt: skip


def offline(home: Home, number: int) -> Trial:
    """Every verb on local files: no connection, and no path or secret in what it leaves."""
    verb = VERBS[number % len(VERBS)]
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder) / "place"
        place.mkdir()
        line = home.line(verb, place / "out")
        environment = {"HF_TOKEN": SECRET, "OPENAI_API_KEY": SECRET}
        # As if a network were wished for: without the variable that forbids it.
        ended = run(line, place, no_network, **environment, HF_HUB_OFFLINE="0")
        faults = ended.faults((0,)) + told_of(place, ended, home)
    return {"what": f"{verb} without a network", "exit": ended.code, "faults": faults,
            "said": ended.said.strip()[-300:]}  # fmt: skip


def told_of(place: Path, ended: Ended, home: Home) -> list[str]:
    """Paths, secrets and markup in what a run has said and written.

    Args:
        place: Where it ran.
        ended: How it ended.
        home: Whose paths are looked for.
    """
    faults = ["the network was asked"] * ("the network was asked" in ended.said)
    faults += ["a secret was said"] * (SECRET in ended.said)
    for file in place.rglob("*"):
        # The Python of an attack names the file that it would make.
        if not file.is_file() or file.suffix in (".safetensors", ".said", ".changed", ".py"):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if SECRET in text:
            faults.append(f"a secret in {file.name}")
        # A store is the user's own; what is published must say nothing of the machine.
        if str(home.folder) in text and "store" not in file.name:
            faults.append(f"a path in {file.name}")
        if file.suffix in (".html", ".md", ".svg") and MARKUP in text:
            faults.append(f"markup in {file.name}")
    return faults


def _edit(file: Path, **fields: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def _code(mark: Path) -> str:
    return f"open({str(mark)!r}, 'w')\nclass Own: pass\n"


def _pickled(mark: Path) -> bytes:
    return f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()


def _pickle(model: Path, mark: Path, _: list[str]) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(_pickled(mark))


def _pickle_beside(model: Path, mark: Path, _: list[str]) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl"):
        (model / name).write_bytes(_pickled(mark))


def _pickle_as_weights(model: Path, mark: Path, _: list[str]) -> None:
    (model / "model.safetensors").write_bytes(_pickled(mark))


def _pickle_as_text(model: Path, mark: Path, line: list[str]) -> None:
    text = model.parent / "text.pkl"
    text.write_bytes(_pickled(mark))
    line[line.index("--calibration") + 1] = str(text)


def _own_code(model: Path, mark: Path, _: list[str]) -> None:
    (model / "own.py").write_text(_code(mark))
    table = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    _edit(model / "config.json", auto_map=table, model_type="own")


def _own_code_of_known_type(model: Path, mark: Path, _: list[str]) -> None:
    (model / "own.py").write_text(_code(mark))
    _edit(model / "config.json", auto_map={"AutoModelForCausalLM": "own.Own"})


def _code_elsewhere(model: Path, mark: Path, _: list[str]) -> None:
    table = {"AutoConfig": "evil/place--own.Own", "AutoModelForCausalLM": "evil/place--own.Own"}
    _edit(model / "config.json", auto_map=table, model_type="own")


def _own_tokenizer(model: Path, mark: Path, _: list[str]) -> None:
    (model / "own.py").write_text(_code(mark))
    _edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]},
          tokenizer_class="Own")  # fmt: skip


def _tokenizer_elsewhere(model: Path, mark: Path, _: list[str]) -> None:
    table = {"AutoTokenizer": ["evil/place--own.Own", "evil/place--own.Own"]}
    _edit(model / "tokenizer_config.json", auto_map=table, tokenizer_class="Own")


def _processor(model: Path, mark: Path, _: list[str]) -> None:
    (model / "own.py").write_text(_code(mark))
    table = {"AutoProcessor": "own.Own", "AutoImageProcessor": "own.Own"}
    for name in ("preprocessor_config.json", "processor_config.json"):
        (model / name).write_text(json.dumps({"auto_map": table, "processor_class": "Own"}))


def _own_generation(model: Path, mark: Path, _: list[str]) -> None:
    (model / "custom_generate").mkdir()
    (model / "custom_generate" / "generate.py").write_text(_code(mark))


def _module_names(model: Path, mark: Path, line: list[str]) -> None:
    # A folder of a model is no place to import from.
    for name in ("torch.py", "json.py", "sitecustomize.py", "tiktoken.py", "sentencepiece.py"):
        (model / name).write_text(_code(mark))


_ESCAPE = (
    "{% for c in ''.__class__.__mro__[1].__subclasses__() %}{% if c.__name__ == 'Popen' %}"
    "{{ c(['touch', 'MARK']) }}{% endif %}{% endfor %}"
)


def _chat(model: Path, line: list[str]) -> None:
    rows = model.parent / "chat.jsonl"
    row = {"messages": [{"role": "user", "content": "some words " * 60}]}
    rows.write_text("\n".join([json.dumps(row)] * 40))
    line[line.index("--calibration") + 1] = str(rows)


def _template(model: Path, mark: Path, line: list[str]) -> None:
    _edit(model / "tokenizer_config.json", chat_template=_ESCAPE.replace("MARK", str(mark)))
    _chat(model, line)


def _template_file(model: Path, mark: Path, line: list[str]) -> None:
    (model / "chat_template.jinja").write_text(_ESCAPE.replace("MARK", str(mark)))
    _chat(model, line)


def _template_reads(model: Path, mark: Path, line: list[str]) -> None:
    (model / "chat_template.jinja").write_text("{% include '/etc/passwd' %}")
    _chat(model, line)


def _template_without_end(model: Path, mark: Path, line: list[str]) -> None:
    (model / "chat_template.jinja").write_text("{% for a in range(10**9) %}x{% endfor %}")
    _chat(model, line)


def _outside(model: Path, mark: Path, _: list[str]) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../../../../etc/passwd"}}
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def _adapter_elsewhere(model: Path, mark: Path, _: list[str]) -> None:
    (model / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "evil/base"})
    )


def _named_elsewhere(model: Path, mark: Path, _: list[str]) -> None:
    _edit(model / "config.json", _name_or_path="evil/place")
    _edit(model / "tokenizer_config.json", name_or_path="evil/place")


def _speaking_name(model: Path, mark: Path, line: list[str]) -> None:
    new = model.rename(
        model.parent / f"{MARKUP.replace('/', chr(0x2215))}`](x)\n# a".replace("\n", "")
    )
    line[1] = str(new)


def _speaking_config(model: Path, mark: Path, _: list[str]) -> None:
    _edit(model / "config.json", architectures=["LlamaForCausalLM", MARKUP], note=MARKUP)
    (model / "README.md").write_text(
        f"---\nlicense: {MARKUP}\nbase_model: '{MARKUP}'\n---\n{MARKUP}"
    )


def _speaking_text(model: Path, mark: Path, line: list[str]) -> None:
    text = model.parent / "a<img src=x onerror=alert(1)>.txt"
    rows = (f"{MARKUP} [a](javascript:alert(1)) some words to read {i} " * 40 for i in range(40))
    text.write_text("<|endoftext|>".join(rows))
    line[line.index("--calibration") + 1] = str(text)


ATTACKS: dict[str, Attack] = {
    "weights as a pickle": _pickle,
    "pickles beside the weights": _pickle_beside,
    "a pickle that is called safetensors": _pickle_as_weights,
    "a pickle as a text": _pickle_as_text,
    "code of the model": _own_code,
    "code beside a known type": _own_code_of_known_type,
    "code of another repository": _code_elsewhere,
    "code of the tokenizer": _own_tokenizer,
    "a tokenizer of another repository": _tokenizer_elsewhere,
    "code of a processor": _processor,
    "code that generates": _own_generation,
    "modules named as ours": _module_names,
    "a template that leaves the sandbox": _template,
    "a file of a template that leaves the sandbox": _template_file,
    "a template that reads files": _template_reads,
    "a template without an end": _template_without_end,
    "an index that leads outside": _outside,
    "an adapter of another repository": _adapter_elsewhere,
    "files that name another repository": _named_elsewhere,
    "a name that is markup": _speaking_name,
    "fields that are markup": _speaking_config,
    "a text that is markup": _speaking_text,
}
RUNS_ALL_THE_SAME = ("pickles beside the weights", "code of a processor", "code that generates",
                     "code beside a known type", "modules named as ours",
                     "files that name another repository", "a name that is markup",
                     "fields that are markup", "a text that is markup")  # fmt: skip
"""Attacks beside a model that is as good as before: it is cut."""
