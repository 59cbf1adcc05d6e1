"""Models judged side by side: stored scores, paired differences, refusals; and timed."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.tiny import save_llama, save_text
from transformers import AutoModelForCausalLM, AutoTokenizer

from coterie import EvaluateRequest
from coterie.cli import main
from coterie.errors import TextError
from coterie.models.files.sources import resolve
from coterie.scores.perplexity import running_windows
from coterie.scores.sequence_losses import sequence_losses
from coterie.scores.task_definitions import load_groups
from coterie.store.observations import Store
from coterie.texts.packing import SequenceFormat
from coterie.texts.sets import TextSet
from coterie.texts.specs import Document, TextSource
from coterie.verbs.evaluate.near import _identity
from coterie.verbs.evaluate.subject import Subject, score_key
from coterie.verbs.shared.progress import NoProgress

QUICK = ["--length", "16", "--sequences", "12", "--dtype", "float32"]
SUMS = [
    {"query": f"badabo {i} is", "choices": ["bada", "fefi", "gogu"], "gold": i % 3}
    for i in range(12)
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model", n_layers=4)
    save_llama(home / "other", n_layers=3)
    save_text(home / "text.txt")
    (home / "tasks").mkdir()
    (home / "tasks" / "sums.jsonl").write_text("\n".join(json.dumps(row) for row in SUMS))
    return home


def run(home, capsys, *more, models=("model", "other"), store="store.sqlite"):
    names = [str(home / model) for model in models]
    code = main(["evaluate", *names, *QUICK, "--store", str(home / store), *more])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def judged(home, capsys, *more, **options):
    code, out, err = run(home, capsys, "--json", *more, **options)
    assert code == 0, err
    return json.loads(out), err


def test_perplexity_is_that_of_plain_transformers_on_consecutive_windows(home, capsys):
    found, _ = judged(home, capsys, "--text", str(home / "text.txt"), "--bos", "never")
    documents = (home / "text.txt").read_text().split("<|endoftext|>")
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    between = tokenizer("\n\n")["input_ids"]
    ids = tokenizer(documents[0])["input_ids"]
    for document in documents[1:]:
        ids += between + tokenizer(document)["input_ids"]
    count = len(ids) // 16
    windows = torch.tensor(ids[: 16 * count]).view(count, 16)
    chosen = windows[np.linspace(0, count - 1, 12).round().astype(int)]
    for model in found["models"]:
        plain = AutoModelForCausalLM.from_pretrained(home / model["name"], dtype=torch.float32)
        with torch.no_grad():
            losses = [plain(row[None], labels=row[None]).loss.item() for row in chosen]
        row = model["perplexity"][0]
        np.testing.assert_allclose(row["nll"]["mean"], np.mean(losses), rtol=1e-5)
        np.testing.assert_allclose(row["perplexity"]["mean"], np.exp(np.mean(losses)), rtol=1e-5)
        assert (row["sequences"], row["bos"]) == (12, False)


def test_the_difference_is_paired_and_the_first_has_none(home, capsys):
    found, _ = judged(home, capsys, "--text", str(home / "text.txt"))
    first, second = (model["perplexity"][0] for model in found["models"])
    assert first["difference"] is None
    gap = second["nll"]["mean"] - first["nll"]["mean"]
    np.testing.assert_allclose(second["difference"]["mean"], gap)
    assert second["difference"]["error"] > 0


def test_stored_scores_answer_without_loading_and_only_for_their_model(home, capsys, tmp_path):
    asked = [
        "--text",
        str(home / "text.txt"),
        "--tasks",
        "sums",
        "--tasks-dir",
        str(home / "tasks"),
    ]
    found, said = judged(home, capsys, *asked, store="kept.sqlite")
    assert said.count("loading") == 2
    again, said = judged(home, capsys, *asked, store="kept.sqlite")
    assert "loading" not in said and again == found
    swapped, said = judged(home, capsys, *asked, store="kept.sqlite", models=("other", "model"))
    # Scores are known; what they write is asked of this pair, which is another one.
    assert "on text.txt" not in said and said.count("loading") == 2
    flipped = swapped["models"][1]["perplexity"][0]["difference"]["mean"]
    np.testing.assert_allclose(flipped, -found["models"][1]["perplexity"][0]["difference"]["mean"])
    shutil.copytree(home / "model", tmp_path / "model")
    moved = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    moved.model.norm.weight.data *= 1.5
    moved.save_pretrained(tmp_path / "model")
    _, said = judged(tmp_path, capsys, *asked, store=home / "kept.sqlite", models=("model",))
    assert said.count("loading") == 1


def test_tasks_are_scored_with_chance_and_average(home, capsys):
    pytest.importorskip("lm_eval")
    asked = ["--tasks", "sums", "--tasks-dir", str(home / "tasks"), "--limit", "9"]
    found, _ = judged(home, capsys, *asked)
    row = found["models"][1]["tasks"][0]
    assert (row["items"], row["group"], found["models"][0]["perplexity"]) == (9, "sums", [])
    np.testing.assert_allclose(row["chance"], 1 / 3)
    assert {"acc", "acc_norm", "margin"} <= set(row["metrics"])
    code, out, _ = run(home, capsys, *asked)
    assert code == 0 and "sums (acc_norm)" in out and "model" in out


def test_a_task_whose_rows_changed_is_scored_again(home, capsys, tmp_path):
    pytest.importorskip("lm_eval")
    asked = ["--tasks", "sums", "--tasks-dir", str(tmp_path)]
    for count in (8, 9):
        rows = "\n".join(json.dumps(row) for row in SUMS[:count])
        (tmp_path / "sums.jsonl").write_text(rows)
        found, _ = judged(home, capsys, *asked, models=("model",))
        assert found["models"][0]["tasks"][0]["items"] == count


def test_another_template_end_or_scorer_is_another_number(home, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    task = load_groups(["sums"], home / "tasks")["sums"]["sums"]

    def key(folder):
        subject = Subject(resolve(str(folder)), torch.float32, torch.device("cpu"), NoProgress())
        texts = TextSet(np.zeros((1, 4), np.int64), np.zeros(1, np.intp), ("d",), "none", bos=False)
        request = EvaluateRequest((str(folder),))
        return score_key(request, subject, "sums", task), _identity(subject, subject, texts)

    folders = [shutil.copytree(home / "model", tmp_path / name / "model") for name in "abc"]
    plain = key(folders[0])
    assert plain == key(folders[1])
    (folders[1] / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (folders[2] / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    for place in (0, 1):
        with Store(":memory:") as book:
            numbers = {book.game(key(folder)[place]) for folder in folders}
        assert len(numbers) == 3
    monkeypatch.setattr("coterie.verbs.evaluate.subject.SCORER", 10**6)
    assert key(folders[0])[0] != plain[0]


def test_no_path_of_this_machine_is_told(home, capsys):
    code, out, _ = run(home, capsys, "--json", "--text", str(home / "text.txt"))
    assert code == 0 and str(home) not in out


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--length", "65"], "length 65 is above the model's context of 64 tokens"),
        (["--tasks", "hellaswog"], "no task 'hellaswog'"),
        (["--tasks", "sums", "--tasks-dir", "nowhere"], "the folder of tasks 'nowhere' is not"),
        (["--limit", "0"], "--limit 0 leaves no item"),
        (["--bos", "maybe"], "--bos maybe is unknown"),
        (["--text", "none.txt"], "text 'none.txt' is not there"),
        (["--sequences", "0"], "--sequences 0"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_store(home, capsys, tmp_path, more, complaint):
    if "hellaswog" in more:
        pytest.skip("reading every definition of the harness takes long; see test_tasks")
    code, out, err = run(home, capsys, *more, store=tmp_path / "new.sqlite")
    assert code == 2 and not out
    assert complaint in err.splitlines()[-1]


def test_windows_belong_to_the_document_they_start_in(home):
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    source = TextSource("s")
    documents = [Document(str(i), "badabo " * 40, source) for i in range(3)]
    form = SequenceFormat(tokenizer, 16, "always")
    texts = running_windows(documents, form, at_most=1000)
    assert (texts.tokens[:, 0] == tokenizer.bos_token_id).all()
    assert (np.diff(texts.documents) >= 0).all() and set(texts.documents) == {0, 1, 2}
    fewer = running_windows(documents, form, at_most=5)
    assert fewer.n_sequences == 5
    assert {row.tobytes() for row in fewer.tokens} <= {row.tobytes() for row in texts.tokens}
    with pytest.raises(TextError, match="one sequence needs 4096"):
        running_windows(documents[:1], SequenceFormat(tokenizer, 4096, "never"), at_most=5)


def test_losses_do_not_depend_on_what_is_read_beside(home):
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    model = AutoModelForCausalLM.from_pretrained(home / "model", dtype=torch.float32)
    documents = [Document("d", (home / "text.txt").read_text(), TextSource("s"))]
    texts = running_windows(documents, SequenceFormat(tokenizer, 16), at_most=300)
    few = running_windows(documents, SequenceFormat(tokenizer, 16), at_most=2)
    told = []
    losses = sequence_losses(model, texts.tokens, step=lambda done, of: told.append((done, of)))
    ends = sequence_losses(model, few.tokens)
    np.testing.assert_allclose(losses[[0, -1]], ends, atol=1e-5)
    assert told[-1] == (texts.n_sequences, texts.n_sequences)


def test_bench_times_every_load_and_draws_quality_against_speed(home, capsys, tmp_path):
    figure = tmp_path / "speed.svg"
    names = [str(home / "model"), str(home / "other")]
    quick = ["--context", "4,8", "--new-tokens", "3", "--rounds", "2", "--warmup", "0"]
    where = ["--store", str(tmp_path / "s.sqlite"), "--text", str(home / "text.txt")]
    # Windows of 128 tokens do not fit this model, so its quality is refused in one line.
    assert main(["bench", *names, *quick, *where, "--figure", str(figure)]) == 2
    assert "above the model's context" in capsys.readouterr().err and not figure.exists()
    assert main(["bench", *names, *quick, *where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["context"]) for row in found["rows"]] == [
        ("model", 4), ("other", 4), ("model", 8), ("other", 8),
    ]  # fmt: skip
    assert all(row["prefill"]["median"] > 0 for row in found["rows"])
    assert found["rows"][0]["decode_speedup"] == 1.0
    assert [row["decode_speedup_error"] > 0 for row in found["rows"]] == [False, True, False, True]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--context", "62", "--new-tokens", "3"], "reads 64 tokens at once, and 62 + 3"),
        (["--batch", "x"], "--batch x is no list of numbers"),
        (["--batch", "0"], "--batch 0 must be at least 1"),
        (["--figure", "f.gif"], "--figure f.gif: end it in"),
    ],
)
def test_a_load_that_cannot_be_timed_is_one_line(home, capsys, more, complaint):
    assert main(["bench", str(home / "model"), *more]) == 2
    assert complaint in capsys.readouterr().err
