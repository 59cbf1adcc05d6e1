"""Tasks: the harness's own definitions on miniature copies, against plain log-likelihoods."""

import json

import numpy as np
import pytest
import torch
from tests.miniatures import MINIATURES
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

pytest.importorskip("lm_eval", reason="tasks need lm-evaluation-harness: the extra `eval`")

from coterie.scores.errors import TaskError
from coterie.scores.local_rows import read_rows
from coterie.scores.task_definitions import PAPER_TASKS, load_tasks
from coterie.scores.task_scores import MeanScore, TaskScores, average, paired_difference
from coterie.scores.tasks import TaskSettings, score_tasks
from coterie.scores.worked_answers import exactly

PAIRS = [
    {"query": f"The sum of {i} and 1 is", "choices": [str(i + 1), "unknown"], "gold": i % 2}
    for i in range(8)
]


@pytest.fixture(scope="module")
def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(["<s>", "</s>", *alphabet])}, merges=[])
    )
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


def tiny_llama(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=258, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def model():
    return tiny_llama(0)


def folder_of(path, files):
    for name, rows in files.items():
        (path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return path


def log_likelihood(model, tokenizer, context, continuation):
    """The definition: sum of the log-probabilities of the continuation's tokens."""
    start = tokenizer(context)["input_ids"]
    ids = start + tokenizer(continuation)["input_ids"]
    with torch.no_grad():
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(log_p[i - 1, ids[i]].item() for i in range(len(start), len(ids)))


def test_the_papers_tasks_run_by_their_own_names_on_local_rows(tmp_path, model, tokenizer):
    tasks = load_tasks(PAPER_TASKS, folder_of(tmp_path, MINIATURES))
    assert set(tasks) == set(MINIATURES)
    results = {r.task: r for r in score_tasks(tasks, model, tokenizer)}
    assert list(results) == list(tasks)
    for name, result in results.items():
        assert len(result.items) == 6
        # The margin is positive exactly where the harness counts the item as right.
        np.testing.assert_array_equal(result.scores["margin"] > 0, result.scores["acc"] == 1)
        assert result.headline == ("acc" if "acc_norm" not in result.scores else "acc_norm"), name
        assert result.truncated == 0


def test_the_harness_prompt_is_kept_on_local_rows(tmp_path, model, tokenizer):
    tasks = load_tasks(["piqa"], folder_of(tmp_path, MINIATURES))
    (result,) = score_tasks(tasks, model, tokenizer)
    for row, margin in zip(MINIATURES["piqa"], result.scores["margin"], strict=True):
        first, second = (
            log_likelihood(model, tokenizer, f"Question: {row['goal']}\nAnswer:", f" {row[sol]}")
            for sol in ("sol1", "sol2")
        )
        expected = first - second if row["label"] == 0 else second - first
        np.testing.assert_allclose(margin, expected, atol=1e-4)


def test_rows_of_the_three_plain_shapes_are_scored_as_they_stand(tmp_path, model, tokenizer):
    options = [
        {"context_options": ["Tom so Tom", "Tom so Ben"], "continuation": "left.", "gold": i}
        for i in (0, 1)
    ]
    words = [{"context": "I do not care about", "continuation": "signs"}] * 2
    folder = folder_of(tmp_path, {"sums": PAIRS, "who": options, "last_word": words})
    sums, who, last = score_tasks(
        load_tasks(["sums", "who", "last_word"], folder), model, tokenizer
    )
    for row, margin in zip(PAIRS, sums.scores["margin"], strict=True):
        values = [log_likelihood(model, tokenizer, row["query"], f" {c}") for c in row["choices"]]
        np.testing.assert_allclose(margin, values[row["gold"]] - values[1 - row["gold"]], atol=1e-4)
    first, second = (
        log_likelihood(model, tokenizer, context, " left.")
        for context in options[0]["context_options"]
    )
    np.testing.assert_allclose(who.scores["margin"], [first - second, second - first], atol=1e-4)
    assert set(last.scores) == {"acc"} and last.provenance["task_version"] == "local"


def test_standard_errors_are_the_harness_own(tmp_path, model, tokenizer):
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tasks = load_tasks(["arc_easy"], folder_of(tmp_path, MINIATURES))
    (result,) = score_tasks(tasks, model, tokenizer)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal")
    none = TaskManager(include_defaults=False)
    answer = simple_evaluate(lm, tasks=list(tasks.values()), task_manager=none)
    theirs = answer["results"]["arc_easy"]
    ours = result.estimate("acc")
    np.testing.assert_allclose(ours.mean, theirs["acc,none"])
    np.testing.assert_allclose(ours.standard_error, theirs["acc_stderr,none"])


def test_a_model_does_not_differ_from_itself_and_a_pair_differs_by_its_items(
    tmp_path, model, tokenizer
):
    tasks = load_tasks(["sums"], folder_of(tmp_path, {"sums": PAIRS}))
    (first,), (again,), (other,) = (
        score_tasks(tasks, m, tokenizer, TaskSettings(batch_size=n))
        for m, n in ((model, 8), (model, 3), (tiny_llama(1), 8))
    )
    assert paired_difference(first, again) == MeanScore(0.0, 0.0, 8)
    difference = paired_difference(first, other, "margin")
    by_item = first.scores["margin"] - other.scores["margin"]
    np.testing.assert_allclose(difference.mean, by_item.mean())
    np.testing.assert_allclose(difference.standard_error, by_item.std(ddof=1) / np.sqrt(8))


def test_the_paired_error_is_the_actual_spread(rng):
    items = tuple(str(i) for i in range(200))
    means, errors = [], []
    for _ in range(300):
        hard = rng.random(200)
        a, b = (rng.random(200) < p for p in (0.2 + 0.6 * hard, 0.6 * hard))
        pair = [TaskScores("t", {"acc": s.astype(float)}, items, 0) for s in (a, b)]
        difference = paired_difference(*pair)
        means.append(difference.mean)
        errors.append(difference.standard_error)
    np.testing.assert_allclose(np.std(means), np.mean(errors), rtol=0.12)
    np.testing.assert_allclose(np.mean(means), 0.2, atol=4 * np.mean(errors) / np.sqrt(300))


def test_an_average_over_tasks_adds_independent_errors():
    mean = average([MeanScore(0.5, 0.3, 10), MeanScore(0.7, 0.4, 20)])
    np.testing.assert_allclose([mean.mean, mean.standard_error, mean.n_items], [0.6, 0.25, 30])


def test_limit_takes_the_first_items_and_texts_too_long_are_counted(tmp_path, model, tokenizer):
    rows = [{**row, "query": "word " * (60 if i == 1 else 1)} for i, row in enumerate(PAIRS)]
    tasks = load_tasks(["sums"], folder_of(tmp_path, {"sums": rows}))
    (result,) = score_tasks(tasks, model, tokenizer, TaskSettings(limit=3))
    assert (len(result.items), result.truncated) == (3, 1)
    (whole,) = score_tasks(tasks, model, tokenizer)
    assert whole.items[:3] == result.items
    with pytest.raises(TaskError, match="differ in their items"):
        paired_difference(result, whole)


def test_bos_is_part_of_what_is_paired(tmp_path, model, tokenizer):
    tasks = load_tasks(["sums"], folder_of(tmp_path, {"sums": PAIRS}))
    never, always = (
        score_tasks(tasks, model, tokenizer, TaskSettings(bos=policy))[0]
        for policy in ("never", "always")
    )
    with pytest.raises(TaskError, match="differ in their settings"):
        paired_difference(never, always)


def test_yaml_files_find_their_data_beside_them(tmp_path, monkeypatch, model, tokenizer):
    folder = folder_of(tmp_path, {"rows": PAIRS})
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (folder / "mine.yaml").write_text(
        "task: mine\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\n"
        "output_type: multiple_choice\ntest_split: test\ndoc_to_text: '{{query}}'\n"
        "doc_to_choice: '{{choices}}'\ndoc_to_target: '{{gold}}'\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    (result,) = score_tasks(load_tasks(["mine"], folder), model, tokenizer)
    assert len(result.items) == 8


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("", "task file 'sums.jsonl' is empty"),
        ('{"query": "a"}\n{', "'sums.jsonl', line 2 is not JSON"),
        ("[1]", "'sums.jsonl', line 1 is not an object"),
        ('{"a": 1, "b": 2}', "has the columns a, b, and 'sums' is not a task of lm-eval: give"),
    ],
)
def test_a_task_file_that_cannot_be_used_is_one_clear_line(tmp_path, rows, complaint):
    (tmp_path / "sums.jsonl").write_text(rows)
    with pytest.raises(TaskError, match=complaint) as caught:
        load_tasks(["sums"], tmp_path)
    assert "\n" not in str(caught.value)


def test_rows_without_the_columns_of_the_harness_task_are_refused(tmp_path):
    (tmp_path / "piqa.jsonl").write_text('{"aim": "x"}')
    with pytest.raises(TaskError, match=r"'piqa' cannot be loaded: .*columns of lm-eval's task"):
        load_tasks(["piqa"], tmp_path)


def test_an_unknown_task_is_answered_with_the_nearest_names(tmp_path, monkeypatch):
    import lm_eval.tasks

    usual = lm_eval.tasks.TaskManager  # every definition of the harness takes long to read

    def manager(include_path, include_defaults):
        return usual(include_path=manager.paths or include_path, include_defaults=False)

    manager.paths = []
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", manager)
    folder_of(tmp_path, {"hellaswog_mini": PAIRS})
    manager.paths = [lm_eval.tasks.__path__[0] + "/hellaswag"]
    with pytest.raises(TaskError, match=r"no task 'hellaswog': did you mean .*hellaswag"):
        load_tasks(["hellaswog"], tmp_path)


def test_data_that_need_the_network_say_so(tmp_path):
    with pytest.raises(
        TaskError, match=r"task 'boolq' cannot be loaded: .*boolq.jsonl in a folder"
    ):
        load_tasks(["boolq"])


@pytest.mark.parametrize("names", [[], ["sums"]])
def test_what_cannot_be_scored_is_refused(tmp_path, model, tokenizer, names):
    if not names:
        with pytest.raises(TaskError, match="no task is named"):
            load_tasks(names)
        return
    tasks = load_tasks(names, folder_of(tmp_path, {"sums": PAIRS}))
    with pytest.raises(TaskError, match="a limit of 0 items"):
        score_tasks(tasks, model, tokenizer, TaskSettings(limit=0))
    with pytest.raises(TaskError, match="folder of tasks 'nowhere' is not there"):
        load_tasks(names, tmp_path / "nowhere")


def test_worked_answers_are_decoded_and_matched_exactly(tmp_path, model, tokenizer):
    rows = [{"question": "1 and 1?", "reasoning": "It is two.", "answer": "2"}] * 2
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (found,) = score_tasks(load_tasks(["sums"], tmp_path), model, tokenizer)
    assert found.headline == "exact_match" and found.chance is None
    assert set(found.scores["exact_match"]) <= {0.0, 1.0} and len(found.items) == 2


def test_a_row_ends_at_the_end_of_its_line_and_nowhere_else(tmp_path):
    rows = [{"context": "one\u2028two\x85three\u2029", "continuation": "four"}] * 2
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "lines.jsonl").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    assert read_rows(tmp_path / "lines.jsonl") == rows


@pytest.mark.parametrize(
    ("written", "wanted", "right"),
    [
        ("3 and 4 make 7.\n#### 7\nQuestion", "7", True),
        ("#### 72 eggs", "72", True),
        ("#### **72**", "72", True),
        ("#### 72 (48+24)", "72", True),
        ("#### 7 or 72", "72", False),
        ("#### -$1,234.50 a day", "-1234.5", True),
        ("#### $.5", "0.50", True),
        ("#### eggs", "72", False),
        ("#### 7,8", "7,8", True),
        ("#### The Red Sea.", "the red sea", True),
        ("so $1,200.00", "1200", True),
        ("about 12, no 13", "12", False),
        ("He thinks.\nThe Red Sea.", "the red sea", True),
        ("nothing", "5", False),
        ("", "yes", False),
    ],
)
def test_an_answer_is_found_in_what_is_written(written, wanted, right):
    assert exactly({"answer": wanted}, [written])["exact_match"] == right
