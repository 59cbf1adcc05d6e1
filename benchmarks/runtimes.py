"""Run small checkpoints of many families, whole and cut, in every runtime, and say who reads them.

    python benchmarks/runtimes.py WORK --environment vllm=PYTHON --environment mlx=PYTHON \
        --environment llama.cpp=PYTHON --converter LLAMA_CPP --page docs/runtimes.md

Random models with the reference model's tokenizer, each whole, cut by a whole period of its kinds
of layers, and cut so that the period breaks; a Llama without some blocks, repaired, and healed.
Everything is held against transformers in float32: greedy tokens, their log-probabilities, and the
loss of a text (not in llama.cpp, whose binding hands out the likeliest tokens alone). Each runtime
has a Python of its own. A run that was stopped goes on where it was.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SCRIPTS = Path(__file__).parent / "in_runtimes"
sys.path.insert(0, str(SCRIPTS))

from compare import Outcome, outcome  # noqa: E402
from page import write_page  # noqa: E402

COLUMNS = {
    "vllm": ("vllm", "in_vllm.py"),
    "llama.cpp": ("llama.cpp", "in_llama_cpp.py"),
    "llama.cpp, exported": ("llama.cpp", "in_llama_cpp.py"),
    "mlx": ("mlx", "in_mlx.py"),
}
"""What a column runs in, and its script; `exported` files carry the key that `export` writes."""


def main() -> None:
    """Make, run, compare, write."""
    asked = _arguments()
    work = asked.work
    work.mkdir(parents=True, exist_ok=True)
    for named in (asked.only, asked.published):
        if named or named is asked.only:  # no name is every small model
            _run([sys.executable, str(SCRIPTS / "make.py"), str(work), *named])
    families = {*asked.only, *(one.partition("=")[0] for one in asked.published)}
    cases = [one for one in _cases(work) if not asked.only or one.parent.name in families]
    _jobs(work, "transformers", cases, sys.executable, "in_transformers.py")
    environments = dict(one.split("=", 1) for one in asked.environment)
    if "llama.cpp" in environments:
        _convert(work, cases, asked.converter)
    for column, (runtime, script) in COLUMNS.items():
        if runtime in environments:
            _jobs(work, column, cases, environments[runtime], script)
    results = {
        case: {column: _outcome(case, column) for column in COLUMNS} for case in _cases(work)
    }
    command = f"python benchmarks/runtimes.py WORK --converter LLAMA_CPP {_told(environments)}"
    if asked.page:
        write_page(asked.page, results, _versions(work), command)
    for case, found in results.items():
        told = "; ".join(f"{column}: {one.word} {one.remark}" for column, one in found.items())
        print(f"{case.parent.name}, {case.name}: {told}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for models and results")
    parser.add_argument("--environment", action="append", default=[], metavar="RUNTIME=PYTHON")
    parser.add_argument("--converter", type=Path, help="llama.cpp's folder, for its converter")
    parser.add_argument("--only", action="append", default=[], metavar="FAMILY", help="may repeat")
    published = {"action": "append", "default": [], "metavar": "NAME=FOLDER"}
    parser.add_argument("--published", **published, help="a published model; may repeat")
    parser.add_argument("--page", type=Path, help="page whose tables are written anew")
    asked = parser.parse_args()
    parser.usage = argparse.SUPPRESS  # what is wrong is one line
    modules = {"vllm": "vllm", "mlx": "mlx_lm", "llama.cpp": "xllamacpp"}
    for one in asked.environment:
        runtime, _, python = one.partition("=")
        if runtime not in modules:
            parser.error(f"--environment {one}: there are {', '.join(modules)}")
        if shutil.which(python) is None:
            parser.error(f"--environment {one}: {python or 'nothing'} is no program that runs")
        looked = "import importlib.util as u, sys; sys.exit(u.find_spec(sys.argv[1]) is None)"
        if subprocess.run([python, "-c", looked, modules[runtime]], check=False).returncode:
            parser.error(f"--environment {one}: that Python has no {modules[runtime]}")
    if any(one.startswith("llama.cpp=") for one in asked.environment):
        file = (asked.converter or Path()) / "convert_hf_to_gguf.py"
        if not file.is_file():
            parser.error("llama.cpp needs --converter: the folder of convert_hf_to_gguf.py")
    return asked


def _cases(work: Path) -> Iterator[Path]:
    """The checkpoints, family by family."""
    for family in sorted(one for one in work.iterdir() if one.is_dir()):
        yield from sorted(one for one in family.iterdir() if (one / "config.json").is_file())


def _place(case: Path, column: str) -> Path:
    return case.with_name(f"{case.name}.{column.replace(', ', '-')}.json")


def _jobs(work: Path, column: str, cases: list[Path], python: str, script: str) -> None:
    """Run what has no result yet; a process that dies is begun again behind what killed it."""
    tried: set[Path] = set()
    while True:
        left = [case for case in cases if not _place(case, column).exists() and case not in tried]
        jobs = [_job(case, column) for case in left]
        for job in jobs:
            refused = Path(f"{job['path']}.refused")
            if refused.is_file():
                Path(str(job["out"])).write_text(json.dumps({"refused": refused.read_text()}))
        jobs = [job for job in jobs if not Path(str(job["out"])).exists()]
        if not jobs:
            return
        asked = json.loads((work / "asked.json").read_text())
        (work / f"jobs-{column}.json").write_text(json.dumps({**asked, "jobs": jobs}))
        said = _run([python, str(SCRIPTS / script), str(work / f"jobs-{column}.json")], check=False)
        if not any(_place(case, column).exists() for case in left):
            sys.exit(f"{column} does not begin: {said}")
        tried |= {case for case in left if _place(case, column).exists()}


def _job(case: Path, column: str) -> dict[str, object]:
    """What to run and where its answer goes; a family may have texts of its own."""
    job: dict[str, object] = {"path": _path(case, column), "out": str(_place(case, column))}
    own = case.parent / "asked.json"
    return {**job, "asked": json.loads(own.read_text())} if own.exists() else job


def _path(case: Path, column: str) -> str:
    if column == "llama.cpp":
        return str(case.with_name(f"{case.name}.gguf"))
    if column == "llama.cpp, exported":
        return str(case.with_name(f"{case.name}.exported.gguf"))
    return str(case)


def _convert(work: Path, cases: list[Path], converter: Path) -> None:
    """The converter's own file of each checkpoint, and the one that `export` makes of that."""
    missing = [
        [str(case), _path(case, "llama.cpp"), "gpt-2"]
        for case in cases
        if not any(Path(_path(case, "llama.cpp") + end).exists() for end in ("", ".refused"))
    ]
    if missing:
        (work / "convert.json").write_text(json.dumps(missing))
        script = SCRIPTS / "convert_many.py"
        file = converter / "convert_hf_to_gguf.py"
        _run([sys.executable, str(script), str(file), str(work / "convert.json")], check=False)
    _run([sys.executable, str(SCRIPTS / "exported.py"), str(work)], check=False)


def _run(words: list[str], *, check: bool = True) -> str:
    """Run a script; the last line of its errors."""
    print(" ".join(Path(word).name for word in words[:3]), flush=True)
    log = subprocess.DEVNULL
    done = subprocess.run(words, stdout=log, stderr=subprocess.PIPE, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else f"exit {done.returncode}"
    if check and done.returncode:
        sys.exit(f"{Path(words[1]).name} failed: {said}")
    return said


def _outcome(case: Path, column: str) -> Outcome:
    files = _place(case, "transformers"), _place(case, column)
    if not all(file.exists() for file in files):
        return Outcome("not run", "")
    expected, found = (json.loads(file.read_text()) for file in files)
    return outcome(expected, found)


def _versions(work: Path) -> dict[str, str]:
    found = {}
    for case in _cases(work):
        for column in ("transformers", *COLUMNS):
            file = _place(case, column)
            told = json.loads(file.read_text()) if file.exists() else {}
            if "version" in told:
                found[column] = str(told["version"])
    return found


def _told(environments: dict[str, str]) -> str:
    return " ".join(f"--environment {name}=PYTHON" for name in environments)


if __name__ == "__main__":
    main()
