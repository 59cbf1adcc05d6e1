"""Records made up for the pages that tests look at."""

import json
from pathlib import Path

from coterie.report.page.build import PageEntry, page
from coterie.report.schema.record import Record

BEFORE = Path(__file__).parents[1] / "fixtures" / "written_before"


def old():
    """A record that was written before there were pages."""
    return json.loads((BEFORE / "demo.json").read_text())


def with_predictor(n_players=16, hub_id="some/model"):
    """The same of a model with so many layers, and with a predictor whose every number differs."""
    record = old()
    part = {
        "surrogate": "Gaussian process",
        "unit": "nats per token",
        "full": 3.5,
        "constant": -0.01,
        "single": [0.01 * (player + 1) for player in range(n_players)],
        "pairs": [
            0.001 * ((7 * one + 3 * two) % 11) - 0.003
            for one in range(n_players)
            for two in range(one + 1, n_players)
        ],
        "length": 6.0,
        "weights": [0.002, -0.003, 0.004, 0.001],
        "cuts": [[], [3], [5], [3, 5]],
        "losses": [0.0, 0.0123, None, 0.0456],
        "errors": [0.0, 0.002, None, None],
        "deviations": [0.01 + 0.001 * k for k in range(n_players + 1)],
        "deepest": 2,
    }
    record["predictor"] = part
    record["player_sizes"] = {
        "parameters": [1000 + player for player in range(n_players)],
        "bytes": [2000 + 2 * player for player in range(n_players)],
    }
    record["model"] |= {"players": n_players, "hub_id": hub_id, "name": hub_id or "folder"}
    kept = [player for player in range(n_players) if player not in (3, 5)]
    record["cut"] = {
        "removed": [3, 5],
        "kept": kept,
        "removed_labels": ["3", "5"],
        "kept_labels": [str(player) for player in kept],
        "closest": None,
    }
    layer = record["contributions"]["layers"][0]
    record["contributions"]["layers"] = [
        layer | {"layer": player, "player": str(player), "value": 0.3 - 0.002 * player}
        for player in range(n_players)
    ]
    return record


def page_of(*records):
    """The page of some records."""
    return page([PageEntry(f"run {k}", Record.from_json(one)) for k, one in enumerate(records)])
