"""A page is one file that escapes what it shows, whatever the record holds."""

import json
import math
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from tests.report.pages import (
    BEFORE,
    comparison,
    old,
    page_of,
    quantized,
    with_everything_after,
    with_predictor,
    without_a_cut,
    written,
)

from coterie.cli import main
from coterie.report.page import build
from coterie.report.page.predict import outline, predicted, prediction
from coterie.report.schema.explorer import PredictorPart
from coterie.report.schema.record import Record
from coterie.verbs.outputs import page as page_file
from coterie.verbs.search import player_times as timing
from coterie.verbs.search.predictor import Observed, process_part

HOSTILE = '</title><script>alert("x")</script><img src=x onerror=alert(1)>'


class Elements(HTMLParser):
    """Counts elements, and checks that each is closed by its own name."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def count(self, tag):
        return sum(name == tag for name, _ in self.seen)


@pytest.mark.parametrize("name", ["coterie.json", "demo.json"])
def test_a_record_from_before_pages_has_one(name):
    text = page_of(json.loads((BEFORE / name).read_text()))
    elements = Elements(text)
    assert "holds no predictor" in text and "perplexity before" in text
    assert sum(a.get("class") == "player" for _, a in elements.seen) == 16
    assert len(text) < 200_000
    # Nothing is fetched: no address in any attribute but the empty icon.
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["data:,"]
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_no_text_of_a_user_is_markup():
    plain, record = Elements(page_of(with_predictor())), with_predictor(hub_id=HOSTILE)
    for part in ("calibration", "held_out"):
        record[part]["description"] = HOSTILE
    record["command"] = record["model"]["architecture"] = HOSTILE
    record["model"]["locked"] = {"0": HOSTILE}
    record["versions"] = {HOSTILE: HOSTILE}
    text = page_of(record)
    assert "<script>alert" not in text and "<img" not in text and HOSTILE not in text
    assert Elements(text).count("script") == plain.count("script") == 2


def test_a_deep_model_fits():
    text = page_of(with_predictor(126))
    elements = Elements(text)
    assert sum(a.get("class") == "player" for _, a in elements.seen) == 126
    assert len(text.encode()) < 2_000_000


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_losses_that_are_not_finite_are_told_as_such(bad):
    record = with_predictor()
    record["contributions"]["layers"][2] |= {"value": bad, "error_texts": bad, "low": bad}
    record["predictor"]["losses"][1] = bad
    record["choice"]["sizes"][0]["finalists"][0]["behind"] = bad
    if bad is not None:
        record["choice"]["sizes"][0]["excess"] = bad
        record["verdict"]["after"] |= {"nll": bad, "perplexity": bad}
        record["verdict"]["difference"]["nll"] = bad
    record["verdict"]["not_finite"] = 3
    text = page_of(record)
    Elements(text)
    assert "Do not use it: 3 of its held-out losses were not finite" in text
    for found in re.findall(r'<script type="application/json">(.*?)</script>', text):
        assert json.loads(found, parse_constant=pytest.fail)


def test_many_deep_models_share_one_page_and_what_is_left_out_is_told(monkeypatch):
    deep = with_predictor(126)
    text = page_of(*[deep] * 9)
    assert len(text.encode()) < build.MOST and "leaves out maps of pairs" in text
    assert text.count("<article>") == 9 and "data-player" in text
    few = [old()] * 3
    monkeypatch.setattr(build, "MOST", 60_000)
    text = page_of(*few)
    assert len(text.encode()) < 60_000 and "leaves out stacks" in text
    assert text.count("Shall I use it?") == 3
    monkeypatch.setattr(build, "MOST", 6_000)
    with pytest.raises(build.PageTooLarge, match="3 runs do not fit"):
        page_of(*few)


def test_what_was_given_back_is_told_gap_by_gap_and_step_by_step():
    text = page_of(with_everything_after())
    Elements(text)
    rows = re.findall(r"<tr>.*?</tr>", text)
    cells = [re.sub(r"<[^>]*>", "|", row) for row in rows]
    assert any("3|" in one and "3.9000" in one and "+0.2000" in one for one in cells)
    assert any("5|" in one and "3.6000" in one and "+0.3000" in one for one in cells)
    assert [one for one in cells if "35 k" in one and "0.2000" in one]
    # The only picture of which points are joined is the healing curve.
    lines = re.findall(r'<g class="other"><path d="([^"]*)"></path><circle', text)
    assert [line.count("L") for line in lines] == [3]
    assert "repair, then healing, then quantization" in text


def test_gaps_that_were_not_measured_are_told_to_be_so():
    record = with_everything_after()
    record["after"][0]["repair"]["by_gap"] = None
    assert "What each gap gave back was not measured" in page_of(record)


def test_the_numbers_of_the_front_stand_in_tables():
    text = page_of(with_predictor())
    finalists = re.search("Finalists, compared.*?</table>", text)[0]
    assert "+0.1542" in finalists and "+0.2631" in finalists  # the chosen, and the last of them
    found = re.search("One more cut at a time.*?</table>", text)[0]
    assert '<td>0-1</td><td><data value="0.02' in found


def test_a_name_that_no_file_can_hold_is_drawn_without_a_warning():
    hostile = with_predictor()
    hostile["choice"]["sizes"][0]["method"] = "a$b\x00\x1b<b>\N{CJK UNIFIED IDEOGRAPH-6F22}"
    text = page_of(hostile)
    Elements(text)
    assert "a$b  &lt;b&gt;\N{CJK UNIFIED IDEOGRAPH-6F22}</text>" in text


def test_the_first_screen_has_a_sample_of_what_both_write():
    text = page_of(with_everything_after())
    first = text[: text.index("The stack")]
    assert "a midnight &amp; more" in first and "a time &lt;b&gt;" in first
    assert '<div class="command"><pre' in first  # as page.css calls it
    assert "the full model goes on" in first and "goes on" not in page_of(old())


def test_a_model_that_cannot_write_is_not_for_use_whatever_its_perplexity():
    record = old()
    record["verdict"]["after"] = record["verdict"]["before"]
    record["verdict"]["generation"] = written("it repeats itself")
    text = page_of(record)
    assert "<strong>Not yet</strong>" in text and "what it writes has broken" in text
    record["verdict"] |= {"grade": "close", "sentence": "Close, but what it writes has broken."}
    assert "<strong>Not yet</strong>" in page_of(record)


def test_a_cut_is_held_against_the_full_model_in_fewer_bits():
    small, whole = with_everything_after(), quantized()
    text = page_of(small, whole)
    Elements(text)
    lines = re.findall(r'<g class="guide"><path d="M ([-0-9.]+) ([-0-9.]+) L', text)
    # Its error, and a line upright and one across.
    assert len(lines) == 3 and "the full model in fewer bits" in text
    assert "run 1: int8" in text and "+0.0020 ± 0.0100" in text
    assert "run 1: reference" in text  # named by what was quantized
    alone = page_of(whole)
    assert "Shall I use it?" in alone and "At equal bytes" not in alone


def test_methods_are_compared_with_and_without_repair():
    text = page_of(comparison())
    Elements(text)
    assert "2 removed, length 128: guided+repair is best" in text
    assert text.count("<h4>") == 2 and text.count("<svg") == 5
    found = re.search("With and without repair.*?</table>", text)[0]
    cells = re.sub(r"<[^>]*>", "|", found)
    assert cells.count("|guided|") == 2 and cells.count("|sleb|") == 2
    assert "+0.2000 ± 0.0100" in cells and "+0.1200 ± 0.0100" in cells and "40%" in cells


def test_every_layer_has_its_measured_milliseconds_in_the_table():
    text = page_of(with_predictor())
    found = re.search("What each layer contributes and costs.*?</table>", text)[0]
    assert "milliseconds for 512 tokens" in found
    assert re.search('<th scope="row">7</th>.*?<data value="2.7">2.7 ms</data>', found)
    assert "What each layer contributes and costs" in page_of(old())


def test_values_without_a_cut_show_the_stack_the_front_and_the_pairs():
    text = page_of(without_a_cut())
    elements = Elements(text)
    assert sum(a.get("class") == "player" for _, a in elements.seen) == 16
    assert "layer 3 and layer 5 stand in for each other" in text
    assert "Front and finalists" in text and "Shall I use it?" not in text


def test_several_runs_stand_side_by_side():
    text = page_of(old(), with_predictor())
    assert "The runs side by side" in text and text.count("<article>") == 2
    assert "run 0: reference" in text and "run 1: some/model" in text


@pytest.mark.parametrize(
    ("ratio", "nll", "error", "words"),
    [
        (1.01, 0.01, 0.015, "cannot be told"),
        (1.65, 0.5, 0.3, "Usable with care: its perplexity is ×1.65"),
        (1.02, 0.02, 0.001, "Use it"),
        (1.2, 0.18, 0.01, "Usable with care"),
        (1.5, 0.4, 0.01, "Not yet"),
        (3.0, 1.1, 0.01, "Do not use it as it is"),
        (0.9, -0.1, 0.01, "10.0% lower"),
    ],
)
def test_one_sentence_says_whether_to_use_it(ratio, nll, error, words):
    record = old()
    record["verdict"]["before"]["perplexity"] = 10.0
    record["verdict"]["after"]["perplexity"] = 10.0 * ratio
    record["verdict"]["difference"] |= {"nll": nll, "error": error}
    text = page_of(record)
    assert words in text
    short = {"Usable": "With care", "Not yet": "Not yet", "Do not use": "No"}
    answer = next((one for start, one in short.items() if words.startswith(start)), "Yes")
    assert f"<strong>{answer}</strong></p>" in text


# The predictor: what the record holds is the process that was fitted.


@pytest.fixture(scope="module")
def process():
    rng = np.random.default_rng(0)
    coalitions = np.unique(rng.random((80, 8)) < 0.8, axis=0)
    coalitions = np.concatenate([np.ones((1, 8), dtype=bool), coalitions])
    _, first = np.unique(coalitions, axis=0, return_index=True)
    coalitions = coalitions[np.sort(first)]
    cut = (~coalitions).astype(float)
    own, both = rng.random(8), 0.1 * rng.normal(size=(8, 8))
    means = 3 + cut @ own + ((cut @ both) * cut).sum(axis=1)
    losses = means[:, None] + 0.1 * rng.normal(size=(1, 6))
    seen = Observed(coalitions, losses.mean(axis=1), np.zeros(len(means)), losses)
    return seen, process_part(seen, np.array([0, 0, 1, 1, 2, 2]))


def test_what_was_observed_is_predicted_and_told(process):
    seen, part = process
    full = seen.means[0]
    assert part.cuts[0] == [] and part.full == pytest.approx(full, abs=1e-6)
    by_cut = {
        tuple(np.flatnonzero(~row)): mean - full
        for row, mean in zip(seen.coalitions, seen.means, strict=True)
    }
    for cut, loss in zip(part.cuts, part.losses, strict=True):
        assert loss == pytest.approx(by_cut[tuple(cut)], abs=1e-6)
        assert predicted(part, cut) == pytest.approx(loss, abs=0.02)
        assert prediction(part, cut).measured
    assert len(part.deviations) == 9 and max(part.deviations) < 0.5


def test_it_survives_the_record(process):
    part = process[1]
    again = PredictorPart.from_json(json.loads(json.dumps(part.as_json(), allow_nan=False)))
    assert again == part
    record = old() | {"predictor": part.as_json()}
    assert Record.from_json(record).predictor == part


def test_a_cut_nobody_saw_is_predicted_near_the_truth(process):
    part = process[1]
    unseen = next(
        sorted(pair)
        for pair in np.array([(a, b) for a in range(8) for b in range(a)]).tolist()
        if sorted(pair) not in part.cuts
    )
    found = prediction(part, unseen)
    assert not found.measured and not found.guessed and found.error > 0
    assert found.loss == predicted(part, unseen)
    assert prediction(part, range(8)).guessed == (part.deepest < 8)


def test_the_path_cuts_one_more_at_a_time_and_never_what_is_locked(process):
    part = process[1]
    path = outline(part, locked=[2])
    assert [len(cut) for cut, _ in path] == list(range(1, len(path) + 1))
    for cut, loss in path:
        assert 2 not in cut and loss == pytest.approx(predicted(part, cut), abs=1e-9)


def test_too_few_observations_make_no_predictor():
    rows = np.ones((3, 8), dtype=bool)
    rows[1, 0] = rows[2, 1] = False
    seen = Observed(rows, np.arange(3.0), np.zeros(3), np.ones((3, 2)))
    assert process_part(seen, np.arange(2)) is None


# The verb, and the file that every run leaves.


def test_the_verb_writes_one_page_of_several_runs(tmp_path, capsys):
    for name, record in (("one", old()), ("two", with_predictor())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "coterie.json").write_text(json.dumps(record))
    runs = [str(tmp_path / "one"), str(tmp_path / "two")]
    out = tmp_path / "page.html"
    assert main(["report", *runs, "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"output": "page.html", "runs": ["one", "two"], "bytes": len(out.read_bytes())}
    assert str(tmp_path) not in out.read_text()


@pytest.mark.parametrize(
    ("runs", "out", "words"),
    [
        ([], "page.html", "Missing argument"),
        (["nothing"], "page.html", "holds neither coterie.json nor comparison.json"),
        (["one", "one"], "page.html", "named twice"),
        (["one"], "one/coterie.json", "would replace a file that is read"),
        (["one"], "one", "is a folder"),
        (["bad"], "page.html", "is no record of a run"),
    ],
)
def test_a_mistake_is_one_line_and_code_two(tmp_path, capsys, runs, out, words):
    for name, text in (("one", json.dumps(old())), ("bad", "[1]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "coterie.json").write_text(text)
    asked = [str(tmp_path / run) for run in runs]
    assert main(["report", *asked, "-o", str(tmp_path / out)]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert json.loads((tmp_path / "one" / "coterie.json").read_text()) == old()


def test_a_page_that_fails_is_one_warning(tmp_path, monkeypatch):
    def broken(entries):
        raise ZeroDivisionError("no\nreason")

    said = []
    monkeypatch.setattr(page_file, "page", broken)
    monkeypatch.setattr(page_file.logger, "warning", lambda words, *more: said.append(words % more))
    page_file.write_page(tmp_path, Record.from_json(old()))
    assert said == ["no report.html was written: ZeroDivisionError: no reason"]
    assert not list(tmp_path.iterdir())


def test_a_pass_that_cannot_be_timed_is_one_warning(monkeypatch):
    def broken(*_):
        raise RuntimeError("out of\nmemory")

    said = []
    monkeypatch.setattr(timing, "player_seconds", broken)
    monkeypatch.setattr(timing.log, "warning", lambda words, *more: said.append(words % more))
    in_memory = SimpleNamespace(batches=None, request=SimpleNamespace(target=None))
    assert timing.player_times(in_memory) is None
    assert said == ["the page has no milliseconds: RuntimeError: out of memory"]


def test_the_verdict_of_the_run_is_what_the_page_says():
    record = old()
    record["verdict"] |= {"grade": "damaged", "sentence": "Damaged: repair it."}
    page = page_of(record)
    assert "Damaged: repair it." in page and page.count('class="advice"') == 1
    assert "Usable with care" not in page
