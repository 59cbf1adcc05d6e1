"""Push and export: what would leave this machine, and what other runtimes are told."""

import json

import pytest
from tests.tiny import save_llama, save_text

from coterie.cli import main

QUICK = ["--length", "16", "--sequences", "6", "--budget", "40"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    save_text(home / "text.txt")
    where = ["--store", str(home / "s.sqlite"), "--calibration", str(home / "text.txt")]
    asked = ["--remove", "2", "--method", "paper", "--output", str(home / "out")]
    assert main(["prune", str(home / "model"), *asked, *QUICK, *where]) == 0
    (home / "out" / "notes.bin").write_bytes(b"x")
    (home / "out" / ".secret.json").write_text("{}")
    return home


class Hub:
    """Remembers what was asked of it."""

    asked: list = []  # noqa: RUF012
    private = False

    def create_repo(self, repo, *, private, exist_ok):
        self.asked.append(("repo", repo, private))
        return f"https://hub/{repo}"

    def model_info(self, repo):
        return self

    def create_commit(self, repo, operations, commit_message):
        self.asked.append(("commit", [one.path_in_repo for one in operations]))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr(Hub, "asked", [])
    return Hub


def test_a_dry_run_shows_everything_and_asks_nothing(home, hub, capsys):
    assert main(["push", str(home / "out"), "me/small", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"model.safetensors", "config.json", "README.md", "coterie.json"} <= set(told["files"])
    assert not {"notes.bin", ".secret.json"} & set(told["files"])
    assert told["url"] is None and not hub.asked
    assert "model-index" in told["card"] and "type: perplexity" in told["card"]
    assert str(home) not in json.dumps(told)


def test_a_push_is_one_commit_of_the_files_shown(home, hub, capsys):
    before = (home / "out" / "README.md").read_text()
    assert main(["push", str(home / "out"), "me/small"]) == 0
    (_, repo, _), (_, names) = hub.asked
    assert repo == "me/small" and "README.md" in names and "notes.bin" not in names
    assert "https://hub/me/small" in capsys.readouterr().out
    assert (home / "out" / "README.md").read_text() == before


def test_results_of_these_weights_enter_the_card_and_others_are_refused(
    home, hub, capsys, tmp_path
):
    scores = tmp_path / "scores.json"
    where = ["--store", str(tmp_path / "s.sqlite"), "--length", "16", "--json"]
    for name, code in (("out", 0), ("model", 2)):
        text = ["--text", str(home / "text.txt")]
        assert main(["evaluate", str(home / name), *text, *where]) == 0
        scores.write_text(capsys.readouterr().out)
        push = ["push", str(home / "out"), "me/small", "--dry-run", "--results", str(scores)]
        assert main(push) == code
        told = capsys.readouterr()
        where_to_look, what = (
            (told.out, "running text") if code == 0 else (told.err, "other weights")
        )
        assert what in " ".join(where_to_look.split())


def test_a_file_that_names_this_machine_is_refused(home, hub, capsys):
    place = home / "out" / "processor_config.json"
    place.write_text(json.dumps({"from": str(home / "model")}))
    try:
        assert main(["push", str(home / "out"), "me/small"]) == 2
    finally:
        place.unlink()
    assert "processor_config.json names a folder of this machine" in capsys.readouterr().err
    assert not hub.asked


@pytest.mark.parametrize("key", ["hf_" + "a1B2" * 9, "-----BEGIN OPENSSH PRIVATE KEY-----"])
def test_a_file_that_holds_a_key_is_refused(key, home, hub, capsys):
    place = home / "out" / "processor_config.json"
    place.write_text(json.dumps({"token": key}))
    try:
        assert main(["push", str(home / "out"), "me/small"]) == 2
    finally:
        place.unlink()
    said = capsys.readouterr().err
    assert "processor_config.json holds what looks like a key" in said and key not in said
    assert not hub.asked


def test_a_public_repository_is_not_taken_for_a_private_one(home, hub, capsys):
    assert main(["push", str(home / "out"), "me/small", "--private"]) == 2
    assert "is there and public" in capsys.readouterr().err
    assert [what for what, *_ in hub.asked] == ["repo"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["push", "nowhere", "me/small"], "there is no folder 'nowhere'"),
        (["push", "{out}", "small"], "'small' is no repository of the Hub"),
        (["push", "{out}", "me/x", "--results", "{out}/config.json"], "no report of an evaluation"),
        (["export", "{out}", "--to", "onnx"], "--to onnx is unknown: there are mergekit"),
        (["export", "{model}", "--to", "mergekit"], "has no coterie.json"),
        (["export", "{out}", "--to", "gguf", "--base", "x"], "go with --to mergekit"),
    ],
)
def test_a_mistake_is_one_line(home, hub, capsys, arguments, complaint):
    filled = [one.format(out=home / "out", model=home / "model") for one in arguments]
    assert main(filled) == 2
    assert complaint in capsys.readouterr().err and not hub.asked


def test_the_mergekit_config_stacks_the_kept_layers(home, capsys, tmp_path):
    output = tmp_path / "cut.yml"
    base = ["--base", "owner/full", "--output", str(output)]
    assert main(["export", str(home / "out"), "--to", "mergekit", *base]) == 0
    kept = json.loads((home / "out" / "coterie.json").read_text())["cut"]["kept"]
    text = output.read_text()
    ranges = [line.split("[")[1].rstrip("]") for line in text.splitlines() if "range" in line]
    spans = [range(*map(int, one.split(","))) for one in ranges]
    assert [layer for span in spans for layer in span] == kept
    assert "dtype: bfloat16" in text and '"owner/full"' in text
    assert f"mergekit-yaml {output} MERGED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("to", "command"), [("gguf", "convert_hf_to_gguf.py {out}"), ("vllm-check", "vllm serve {out}")]
)
def test_what_a_runtime_needs_is_checked(home, capsys, to, command):
    assert main(["export", str(home / "out"), "--to", to]) == 0
    told = capsys.readouterr().out
    assert "LlamaForCausalLM" in told and "4 layers, model.layers.0 to .3" in told
    assert command.format(out=home / "out") in told  # whole paths: it can be typed anywhere
