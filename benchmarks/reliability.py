"""A campaign that looks for faults: runs killed, disks filled, files mutated, writers side by side.

    python benchmarks/reliability.py --sections kills disk fuzz writers security --count 100

Every trial is drawn from its number alone and kept as one line of JSON, so that a campaign that was
stopped goes on, and a trial that failed is repeated by its number (--only fuzz:17). Printed is what
was tried and what held; every line that did not hold is printed whole.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

MOST_SECONDS, MOST_BYTES = 60, 4 * 10**9
GAME = ["--sequences", "4", "--length", "16", "--device", "cpu"]

Trial = dict[str, object]
Run = Callable[..., tuple[int, str]]


def main() -> None:
    """Run the trials that are not known yet, and print the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--count", type=int, default=20, help="trials of each section")
    parser.add_argument("--only", help="one trial, as SECTION:NUMBER, told in full")
    parser.add_argument("--log", type=Path, default=Path("reliability.jsonl"))
    parser.add_argument("--seconds", type=float, help="stop beginning trials after so long")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        if asked.only:
            section, _, number = asked.only.partition(":")
            print(json.dumps(SECTIONS[section](home, int(number)), indent=2))
            return
        for section in asked.sections:
            campaign(section, home, asked.count, asked.log, asked.seconds)


def campaign(section: str, home: "Home", count: int, log: Path, seconds: float | None) -> None:
    """The trials of one section: those that a log knows, and those that are still to be made."""
    known = {}
    if log.is_file():
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        known = {one["number"]: one for one in lines if one["section"] == section}
    began = time.monotonic()
    for number in range(count):
        if number in known or (seconds is not None and time.monotonic() - began > seconds):
            continue
        known[number] = {"section": section, "number": number, **SECTIONS[section](home, number)}
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(known[number]) + "\n")
    done = [one for number, one in sorted(known.items()) if number < count]
    ends = Counter(f"{one['what']}, exit {one.get('exit')}" for one in done)
    held = sum(not one["faults"] for one in done)
    print(f"{section}: {held} of {len(done)} trials held")
    for end, times in sorted(ends.items()):
        print(f"    {times:4} x {end}")
    for one in done:
        if one["faults"]:
            print("    FAULT", json.dumps(one))


class Home:
    """A small model, its texts and a cut of it, made once; every trial works on copies."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from coterie.models.cutting.write import write_cut
        from coterie.models.files.places import reference_folder
        from coterie.models.files.sources import resolve

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.folder = folder
        self.model, self.cut = folder / "model", folder / "cut"
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 5}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 4096}
        config = LlamaConfig(**sizes, **heads, max_position_embeddings=64)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(self.model)
        for file in reference_folder().glob("*token*"):
            shutil.copy(file, self.model)
        draw, known = random.Random(0), ["the", "of", "a", "model", "layer", "cut", "game", "value"]
        text = " ".join(f"{draw.choice(known)} {i % 97}" for i in range(20_000))
        (folder / "text.txt").write_text(text[: len(text) // 2])
        (folder / "judges.txt").write_text(text[len(text) // 2 :])
        self.cut.mkdir()
        write_cut(resolve(str(self.model)), [0, 1, 3, 4], self.cut)

    def line(self, verb: str, output: Path, model: Path | None = None) -> list[str]:
        """The command line of a verb that writes a folder."""
        model = self.model if model is None else model
        text, judges = str(self.folder / "text.txt"), str(self.folder / "judges.txt")
        game = [*GAME, "--calibration", text]
        learn = ["--teacher", str(self.model), "--text", text, "--held-out", judges]
        words = {
            "prune": ["prune", str(model), "--remove", "1", "--method", "greedy", *game],
            "sparsify": ["sparsify", str(model), "--sparsity", "0.5", "--pruner", "magnitude",
                         "--allocation", "uniform", *game],
            "heal": ["heal", str(self.cut), *learn, "--mode", "full", "--steps", "6", "--batch",
                     "2", "--device", "cpu"],
            "quantize": ["quantize", str(model), "--held-out", judges, "--device", "cpu"],
            "compare": ["compare", str(model), "--remove", "1", "--methods", "one-shot,greedy",
                        "--seeds", "1", "--rounds", "0", *game],
            "cut": ["cut", str(model), "--layers", "1"],
        }  # fmt: skip
        return [*words[verb], "--output", str(output)]


def begun(line: list[str], place: Path, **environment: str) -> subprocess.Popen[str]:
    """A command, begun in a process of its own, with bounded memory and no network."""

    def limited() -> None:
        # Of addresses: torch maps about twice what it uses.
        resource.setrlimit(resource.RLIMIT_AS, (4 * MOST_BYTES, 4 * MOST_BYTES))
        os.setpgrp()

    own = {"COTERIE_STORE": str(place / "store.sqlite"), "HF_HUB_OFFLINE": "1",
           "OMP_NUM_THREADS": "1", "TMPDIR": str(place)}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "coterie", *line],
        env={**os.environ, **own, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=limited,
        cwd=place,
    )


def ended(line: list[str], place: Path, **environment: str) -> tuple[int, str]:
    """Exit code and last line of a command that is let run."""
    process = begun(line, place, **environment)
    try:
        _, said = process.communicate(timeout=10 * MOST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 124, "no end"
    return process.returncode, said


def faults_of(code: int, said: str, allowed: tuple[int, ...] = (0, 1, 2)) -> list[str]:
    """What is wrong with how a command ended."""
    found = [] if code in allowed else [f"exit {code}"]
    if "Traceback (most recent call last)" in said:
        found.append("traceback")
    if "that was not foreseen" in said:
        found.append("not foreseen: " + said.strip().splitlines()[-1][-200:])
    return found


def answer(output: Path) -> object:
    """What a run answers: what it kept, and its tensors; libraries order them as they like."""
    from coterie.models.files.tensors import read_header

    record = json.loads((output / "coterie.json").read_text()) if output.is_dir() else {}
    cut = record.get("cut") or {}
    files = sorted(output.glob("*.safetensors"))
    tensors = {
        one.name: hash(file.read_bytes()[one.start : one.stop])
        for file in files
        for one in read_header(file).entries
    }
    return [cut.get("kept"), tensors]


def kill(home: Home, number: int) -> Trial:
    """One run killed at random moments, up to three times, then let end: the answer is the same."""
    rng = random.Random(f"kill {number}")
    verb = ("prune", "sparsify", "heal", "quantize", "compare")[number % 5]
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder)
        plain = place / "plain"
        plain.mkdir()
        began = time.monotonic()
        expected, _ = ended(home.line(verb, plain / "out"), plain)
        takes = time.monotonic() - began
        kills = 0
        for _ in range(rng.randint(1, 3)):
            process = begun(home.line(verb, place / "out"), place)
            time.sleep(rng.uniform(0.2, 1.0) * takes)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            process.communicate()
        code, said = ended(home.line(verb, place / "out"), place)
        faults = faults_of(code, said, (expected,)) + ["the plain run failed"] * (expected != 0)
        if code == 0 and answer(place / "out") != answer(plain / "out"):
            faults.append("another answer")
        faults += leftovers(place) + doubled(place / "store.sqlite")
    return {"what": f"{verb} killed", "kills": kills, "exit": code, "faults": faults}


def leftovers(place: Path) -> list[str]:
    """Working folders and files that a finished run has left."""
    return [f"left {path.name}" for path in place.iterdir()
            if path.name.startswith(".") or "partial" in path.name]  # fmt: skip


def doubled(store: Path) -> list[str]:
    """Whether a store is damaged, or holds one observation twice."""
    if not store.is_file():
        return []
    with sqlite3.connect(store) as db:
        whole = db.execute("PRAGMA integrity_check").fetchone()[0]
        rows, distinct = db.execute(
            "SELECT COUNT(*), COUNT(DISTINCT game || ' ' || coalition || ' ' || sequence)"
            " FROM observation"
        ).fetchone()
    return [f"store: {whole}"] * (whole != "ok") + ["stored twice"] * (rows != distinct)


def disk(home: Home, number: int) -> Trial:
    """One run on a disk of a size at which some write fails; then on one with room."""
    rng = random.Random(f"disk {number}")
    verb = ("prune", "cut", "sparsify", "quantize", "heal")[number % 5]
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder) / "disk"
        place.mkdir()
        mounted = [
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"size={rng.randint(4, 900)}k",
            "tmpfs",
            str(place),
        ]
        if subprocess.run(mounted, check=False, capture_output=True).returncode:
            return {"what": "no disk can be mounted here", "exit": None, "faults": []}
        try:
            code, said = ended(home.line(verb, place / "out"), place, TMPDIR=folder)
            faults = faults_of(code, said)
            if code and (place / "out").exists():
                faults.append("half-written output")
            left = [name for name in leftovers(place) if "healing" not in name]
            faults += left if code else []
        finally:
            subprocess.run(["umount", str(place)], check=False)
    return {"what": f"{verb} on a small disk", "exit": code, "faults": faults}


def inside(line: list[str], place: Path, **_: str) -> tuple[int, str]:
    """As `ended`, in this process: quicker, and without bounds of its own."""
    from coterie.cli import main as command

    os.environ["COTERIE_STORE"] = str(place / "store.sqlite")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = command(line)
    except Exception:  # what must never happen is what is looked for
        return 1, traceback.format_exc()
    return code, said.getvalue()


def fuzz_inside(home: Home, number: int) -> Trial:
    """As `fuzz`, in this process."""
    return fuzz(home, number, inside)


def fuzz(home: Home, number: int, run: Run = ended) -> Trial:
    """One file of a model or a text, mutated: read or refused, in one line, within bounds."""
    rng = random.Random(f"fuzz {number}")
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
             "model.safetensors.index.json", "generation_config.json", "text")  # fmt: skip
    name = names[number % len(names)]
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder)
        model = Path(shutil.copytree(home.model, place / "model"))
        line = home.line(rng.choice(["prune", "cut"]), place / "out", model)
        if name == "text":
            line = home.line("prune", place / "out", model)
            text = place / f"t{rng.choice(['.txt', '.jsonl', '.csv', '.tsv', '.json', '.txt.gz'])}"
            text.write_bytes(mutated_bytes(b'{"text": "some words"}\n' * 400, rng))
            line[line.index("--calibration") + 1] = str(text)
        else:
            file = model / name
            before = file.read_bytes() if file.is_file() else b'{"metadata": {}, "weight_map": {}}'
            file.write_bytes(mutated(before, rng, header=name.endswith("safetensors")))
        began = time.monotonic()
        code, said = run(line, place)
        faults = faults_of(code, said)
        if code and (place / "out").exists():
            faults.append("half-written output")
        if (took := time.monotonic() - began) > MOST_SECONDS:
            faults.append(f"{took:.0f} s")
        if (most := 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) > MOST_BYTES:
            faults.append(f"{most:,} bytes")
        faults += leftovers(place)
    return {"what": f"{name} mutated", "exit": code, "faults": faults,
            "said": said.strip()[-300:]}  # fmt: skip


def mutated(content: bytes, rng: random.Random, *, header: bool) -> bytes:
    """JSON with one value exchanged, or bytes exchanged; of weights the header."""
    if rng.random() < 0.3:
        return mutated_bytes(content, rng)
    if not header:
        return changed_json(content, rng)
    length = struct.unpack("<Q", content[:8])[0]
    text = changed_json(content[8 : 8 + length], rng)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def changed_json(content: bytes, rng: random.Random) -> bytes:
    """One value of some depth replaced by one of another kind or size."""
    whole = json.loads(content)
    node = whole
    while isinstance(node, dict) and node:
        key = rng.choice(list(node))
        if not isinstance(node[key], dict) or rng.random() < 0.3:
            node[key] = rng.choice(
                [None, True, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, float("nan"), "", "x" * 999,
                 [], [1], {}, {"a": None}, "../../etc/passwd", "\ud83d", [[[]]]]
            )  # fmt: skip
            if rng.random() < 0.2:
                del node[key]
            break
        node = node[key]
    return json.dumps(whole).encode()


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes replaced, cut off, or put in."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data) or 1)
        how = rng.randrange(4)
        if how == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif how == 1:
            del data[at : at + rng.randint(1, 64)]
        elif how == 2:
            data[at:at] = rng.choice([b"\0", b'"', b"{", b"\xff\xfe", b",,,", b"\n"])
        else:
            del data[at + 1 :]
    return bytes(data)


def writers(home: Home, number: int) -> Trial:
    """Two runs at once: one store, one output or two; both end, and one answer stands."""
    rng = random.Random(f"writers {number}")
    same = number % 2 == 0
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder)
        first = begun(home.line("prune", place / "out"), place)
        time.sleep(rng.uniform(0, 3))
        second = begun(home.line("prune", place / ("out" if same else "out2")), place)
        ends = [(one.communicate()[1], one.returncode) for one in (first, second)]
        faults = [fault for said, code in ends for fault in faults_of(code, said, (0, 2))]
        if not any(code == 0 for _, code in ends):
            faults.append("neither ended well")
        if not same and answer(place / "out") != answer(place / "out2"):
            faults.append("two answers")
        faults += leftovers(place) + doubled(place / "store.sqlite")
    what = "two runs of one output" if same else "two runs of one store"
    return {"what": what, "exit": [code for _, code in ends], "faults": faults}


def security(home: Home, number: int) -> Trial:
    """A checkpoint that would run code or leave its folder, read without the flag."""
    kinds = list(ATTACKS)
    kind = kinds[number % len(kinds)]
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder)
        model, mark = Path(shutil.copytree(home.model, place / "model")), place / "ran"
        line = home.line("prune", place / "out", model)
        ATTACKS[kind](model, mark, line)
        code, said = ended(line, place)
        faults = faults_of(code, said)
        if mark.exists():
            faults.append("code has run")
        record = place / "out" / "coterie.json"
        if record.is_file() and str(place) in record.read_text():
            faults.append("a path in the record")
    return {"what": kind, "exit": code, "faults": faults}


def _edit(file: Path, **fields: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def _pickle(model: Path, mark: Path, _: list[str]) -> None:
    (model / "model.safetensors").unlink()
    code = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    (model / "pytorch_model.bin").write_bytes(code)


def _pickle_beside(model: Path, mark: Path, _: list[str]) -> None:
    code = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (model / name).write_bytes(code)


def _own_code(model: Path, mark: Path, _: list[str]) -> None:
    (model / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    table = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    _edit(model / "config.json", auto_map=table, model_type="own")


def _own_tokenizer(model: Path, mark: Path, _: list[str]) -> None:
    (model / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    _edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]},
          tokenizer_class="Own")  # fmt: skip


def _template(model: Path, mark: Path, line: list[str]) -> None:
    escape = (
        "{% for c in ''.__class__.__mro__[1].__subclasses__() %}{% if c.__name__ == 'Popen' %}"
        f"{{{{ c(['touch', '{mark}']) }}}}{{% endif %}}{{% endfor %}}"
    )
    _edit(model / "tokenizer_config.json", chat_template=escape)
    rows = model.parent / "chat.jsonl"
    row = {"messages": [{"role": "user", "content": "some words " * 60}]}
    rows.write_text("\n".join([json.dumps(row)] * 40))
    line[line.index("--calibration") + 1] = str(rows)


def _outside(model: Path, mark: Path, _: list[str]) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../../../../etc/passwd"}}
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


ATTACKS: dict[str, Callable[[Path, Path, list[str]], None]] = {
    "weights as a pickle": _pickle,
    "pickles beside the weights": _pickle_beside,
    "code of the model": _own_code,
    "code of the tokenizer": _own_tokenizer,
    "a template that leaves the sandbox": _template,
    "an index that leads outside": _outside,
}

SECTIONS: dict[str, Callable[[Home, int], Trial]] = {
    "kills": kill,
    "disk": disk,
    "fuzz": fuzz,
    "fuzz-inside": fuzz_inside,
    "writers": writers,
    "security": security,
}

if __name__ == "__main__":
    main()
