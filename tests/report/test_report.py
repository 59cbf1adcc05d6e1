"""Printers only format what stands in a record, wherever a number does not exist too."""

import io

import pytest
from rich.console import Console

from coterie import players
from coterie.report import words
from coterie.report.card.prune import model_card
from coterie.report.figure.contributions import draw_contributions
from coterie.report.figure.labels import Label, write_labels
from coterie.report.schema.record import Record
from coterie.report.terminal.fitted import print_fitted
from coterie.report.terminal.prune import print_record


@pytest.fixture
def record():
    text = {
        "description": "novels.txt",
        "sha256": "ab" * 32,
        "sequences": 10,
        "length": 128,
        "documents": 4,
        "bos": False,
    }
    known = {"r2": 0.91, "spearman": 0.87, "coalitions": 100}
    layers = [
        {
            "layer": layer,
            "player": str(layer),
            "value": None if layer == 0 else 0.1 * layer - 0.15,
            "error_sampling": None if layer == 0 else 0.01,
            "error_texts": None,
            "low": None if layer == 0 else 0.1 * layer - 0.17,
            "high": None if layer == 0 else 0.1 * layer - 0.13,
        }
        for layer in range(4)
    ]
    return {
        "kind": "prune",
        "command": "coterie prune some/model --remove 1 --output out",
        "request": {},
        "identity": {},
        "model": {
            "name": "some/model",
            "hub_id": "some/model",
            "revision": "0123456789abcdef",
            "fingerprint": "some/model@0123456789abcdef",
            "architecture": "LlamaForCausalLM",
            "stack": "model.layers",
            "players": 4,
            "player_kind": "layer",
            "locked": {"0": "as asked"},
            "dtype": "BF16",
        },
        "search": {
            "method": "paper",
            "surrogate": "paper network",
            "utility": "ppl-ratio",
            "settings": {},
            "seed": 0,
            "device": "cpu",
            "dtype": "float32",
            "dtype_reason": "as asked",
            "attention": "sdpa",
            "mode": "shared prefixes",
            "shape": {},
        },
        "calibration": text,
        "held_out": text | {"description": "other.txt"},
        "versions": {},
        "machine": {},
        "strata": [],
        "contributions": {
            "semivalue": "stratified semivalue",
            "unit": "share",
            "replicates": 24,
            "base_coalitions": 1000,
            "confidence": 0.95,
            "layers": layers,
        },
        "fidelity": {
            "how": "paper network, 5-fold cross-validation",
            "overall": known,
            "by_size": {"3": known, "2": known | {"r2": None, "spearman": None}},
            "requested_size": 1,
            "requested": known,
        },
        "cut": {
            "removed": [1],
            "kept": [0, 2, 3],
            "removed_labels": ["1"],
            "kept_labels": ["0", "2", "3"],
            "closest": {"kept": 2, "removed": 1, "difference": 0.1, "error": 0.09},
        },
        "verdict": {
            "before": {"nll": 3.0, "perplexity": 20.086, "error": 0.5},
            "after": {"nll": 3.1, "perplexity": 22.198, "error": None},
            "difference": {"nll": 0.1, "error": 0.02, "documents": 4},
            "ratio": 1.105,
            "kl": 0.1,
            "top1": 0.8,
            "not_finite": 0,
        },
        "size": {
            "parameters_before": 6_230_000,
            "parameters_after": 4_840_000,
            "bytes_before": 12_460_000,
            "bytes_after": 9_680_000,
        },
        "verification": {"summary": "loss within 0.0e+00"},
        "budget": {
            "distinct": 100,
            "known": 7,
            "layer_tokens_asked": 7_300_000,
            "layer_tokens_executed": 3_000_000,
            "head_tokens": 650_000,
            "not_finite": 3,
            "seconds": {"observing": 75.0},
        },
    }


def test_the_terminal_shows_every_figure_of_the_record(record):
    out = io.StringIO()
    print_record(
        Record.from_json(record), Console(file=out, width=120, highlight=False), verbose=True
    )
    printed = out.getvalue()
    for figure in (
        "some/model", "novels.txt", "other.txt", "locked", "-0.0500", "0.910", "20.086", "22.198",
        "×1.105", "+0.1000 ± 0.0200", "6.23 M", "-22.3%", "0, 2-3", "100 (7 known before)",
        "7.3 M", "3 observations read as the floor", "1 min 15 s", "drawn for this",
        "0.1000 ± 0.0900, which does not tell them apart",
    ):  # fmt: skip
        assert figure in printed


def test_a_short_report_fits_eighty_columns_and_begins_with_the_verdict(record):
    sentence = "Heavily damaged: agrees with the full model on 46% of tokens, perplexity ×1.11."
    record["verdict"]["sentence"] = sentence
    out = io.StringIO()
    print_record(Record.from_json(record), Console(file=out, width=80, highlight=False))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in out.getvalue()
    assert next(line for line in lines if line).startswith("Heavily damaged")
    places = [out.getvalue().index(word) for word in ("20.086", "0, 2-3", "Contribution")]
    assert places == sorted(places)
    assert "7.3 M" not in out.getvalue() and "-v tells more" in out.getvalue()


def test_a_table_that_is_too_wide_goes_on_below_with_whole_names():
    name, out = "a-model-of-some-length/and-more", io.StringIO()
    heads = ["model", *(f"a column of some length {n}" for n in range(6))]
    rows = [[name, *("12.345 ± 0.678" for _ in range(6))]]
    print_fitted(heads, rows, Console(file=out, width=80, highlight=False))
    printed = out.getvalue()
    assert max(map(len, printed.splitlines())) <= 80 and "…" not in printed
    assert printed.count(name) == 6 and printed.count("12.345 ± 0.678") == 6


def test_the_card_carries_base_model_and_licence(record):
    card = model_card(Record.from_json(record), {"license": "apache-2.0"})
    _, metadata, body = card.split("---\n", 2)
    assert "base_model: some/model\n" in metadata and "license: apache-2.0\n" in metadata
    assert "| 1 | -0.0500 | 0.0100 | – | cut |" in body
    assert "20.086 ± 0.500" in body and "22.198 ± –" in body
    assert "10 × 128 tokens, no BOS" in body and "`coterie prune some/model" in body


@pytest.fixture
def blocks(record):
    """The same record where the players are the blocks of two layers."""
    labels = ["0.attention", "0.mlp", "1.attention", "1.mlp"]
    for player, layer in enumerate(record["contributions"]["layers"]):
        layer |= {"layer": player // 2, "player": labels[player]}
    record["model"] |= {"player_kind": "sublayer", "locked": {"0.attention": "as asked"}}
    record["cut"] |= {"removed_labels": labels[1:2], "kept_labels": [labels[0], *labels[2:]]}
    return record | {"runtimes": ["a runtime with a flag", "another"]}


def test_blocks_are_named_by_layer_and_kind_everywhere(blocks, tmp_path):
    out = io.StringIO()
    print_record(
        Record.from_json(blocks), Console(file=out, width=120, highlight=False), verbose=True
    )
    printed = out.getvalue()
    for figure in (
        "4 blocks)", "0.attention locked", "Contribution of each block", "3 blocks kept",
        "0-1.attention, 1.mlp", "1.attention kept, 0.mlp cut", "a runtime with a flag; another",
    ):  # fmt: skip
        assert figure in printed
    assert "layers kept" not in printed
    card = model_card(Record.from_json(blocks), {})
    assert "1 of 4 blocks cut" in card and "| 0.mlp | -0.0500 | 0.0100 | – | cut |" in card
    assert "a runtime with a flag; another" in card and "loads it as it is" not in card
    assert "- custom_code\n" in card
    draw_contributions(Record.from_json(blocks), tmp_path / "blocks.png")
    assert (tmp_path / "blocks.png").stat().st_size > 1000


def test_a_model_from_a_folder_names_no_base_model(record):
    record["model"]["hub_id"] = None
    assert "base_model" not in model_card(Record.from_json(record), {})


def test_the_figure_is_the_same_for_the_same_record(record, tmp_path):
    for name in ("one.png", "two.png"):
        draw_contributions(Record.from_json(record), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.count(1234), "1,234"),
        (words.count(12_345_678), "12.3 M"),
        (words.size(999), "999 B"),
        (words.size(12_460_000), "12.5 MB"),
        (words.seconds(59.94), "59.9 s"),
        (words.seconds(200), "3 min 20 s"),
        (words.seconds(7500), "2 h 5 min"),
        (players.players(["9", "0", "1", "2", "11", "10"]), "0-2, 9-11"),
        (
            players.players(["0.mlp", "3.attention", "4.attention", "2.mlp"]),
            "0.mlp, 2.mlp, 3-4.attention",
        ),
        (players.players([]), "none"),
        (players.label("layer", 3), "3"),
        (players.label("attention", 3), "3.attention"),
        (players.label("sublayer", 7), "3.mlp"),
        (players.unit("mlp", plural=True), "feed-forward blocks"),
        (words.or_dash(None), "–"),
        (words.short_hash("sha256:" + "a" * 64), "sha256:" + "a" * 12),
    ],
)
def test_numbers_are_written_for_people(said, expected):
    assert said == expected


def test_names_beside_points_do_not_stand_on_each_other(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4))
    axes = figure.subplots()
    places = [(1.0, 1.0 + 0.004 * n) for n in range(6)] + [(5.0, 1.0)]
    axes.plot(*zip(*places, strict=True), "o")
    write_labels(axes, [Label(f"a method {n}", x, y, "black") for n, (x, y) in enumerate(places)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    apart = [one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k]]
    assert len(boxes) == 7 and not any(apart)


def test_the_figure_of_layers_has_whole_names_and_no_tick_where_no_layer_is(
    record, tmp_path, monkeypatch
):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    record["contributions"]["semivalue"] = "mean marginal contribution in the chosen coalition " * 2
    draw_contributions(Record.from_json(record), tmp_path / "x.png")
    figure = drawn[0]
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks and set(ticks) <= set(range(len(record["contributions"]["layers"])))
        name = axes.yaxis.label.get_window_extent()
        assert figure.bbox.y0 <= name.y0 and name.y1 <= figure.bbox.y1
