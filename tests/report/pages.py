"""Records made up for the pages that tests look at."""

import json
import math
from pathlib import Path

from coterie.report.page.build import PageEntry, page
from coterie.report.schema.compare import Comparison
from coterie.report.schema.record import CheckpointRecord, Record

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
    record["player_times"] = {
        "seconds": [0.002 + 0.0001 * player for player in range(n_players)],
        "rest": 0.01,
        "tokens": 512,
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


def done_after(record, what, nats, n_bytes, **more):
    """A part of what was done to a checkpoint, by so many nats per token on its held-out text."""
    parts = record.get("after") or []
    before = parts[-1]["after"] if parts else record["verdict"]["after"]
    nll = before["nll"] + nats
    return {
        "what": what,
        "command": f"coterie {what} small --output next",
        "settings": {"model": "reference"},
        "held_out": record["held_out"],
        "full": record["verdict"]["before"],
        "before": before,
        "after": {"nll": nll, "perplexity": math.exp(nll), "error": 0.1},
        "difference": {"nll": nats, "error": 0.01, "documents": 8},
        "bytes_before": 2 * n_bytes,
        "bytes_after": n_bytes,
        "not_finite": 0,
        "versions": {"coterie": "0"},
        "machine": {"cpu": "any"},
        **more,
    }


def written(broken=None):
    """What two models wrote after the same words."""
    one = {"tokens": 64.0, "repeated": 0.02, "loops": 0.0, "to_loop": None, "perplexity": 8.0}
    sample = {"prompt": "Once upon", "full": " a time <b>", "smaller": " a midnight & more"}
    part = {"prompts": 8, "prompt_tokens": 32, "new_tokens": 64, "chat": False, "compared": 32}
    part |= {"full": one, "smaller": one, "agreement": 0.5, "in_common": 9.0}
    return part | {"broken": broken, "samples": [sample, sample]}


def with_everything_after():
    """A record of a cut that was repaired, healed and quantized, with all that may be told."""
    record = with_predictor()
    gaps = [{"gone": [3], "loss": 3.9}, {"gone": [5], "loss": 3.6}]
    record["after"] = [
        done_after(
            record,
            "repair",
            -0.05,
            9_000_000,
            repair={
                "name": "spread",
                "selection_sequences": 32,
                "as_cut": 4.0,
                "tried": {"spread": 3.7, "progressive": 3.8},
                "changed": 20,
                "seconds": 12.0,
                "remarks": [],
                "by_gap": {"sequences": 8, "as_cut": 4.1, "gaps": gaps},
            },
        )
    ]
    learning = {"mode": "lora", "rank": 8, "learning_rate": 1e-3, "seams": 0.0, "batch": 4}
    learning |= {"steps": 40, "steps_asked": 40, "tokens": 40_000, "seconds": 60.0}
    learning |= {"trained_parameters": 1000, "kl_first": 0.5, "kl_last": 0.2}
    learning["curve"] = [0.5, 0.375, 0.25, 0.2]
    record["after"].append(done_after(record, "heal", -0.04, 9_000_000, learning=learning))
    record["verdict"]["generation"] = written()
    near = {"model": "full", "kl": 0.1, "top1": 0.8, "sequences": 8, "generation": written()}
    scheme = {"settings": {"model": "healed", "scheme": "int8"}, "beside": near}
    record["after"].append(done_after(record, "quantize", 0.001, 5_000_000, **scheme))
    return record


def quantized():
    """The record of the full model in fewer bits: no cut, and nothing that tells of one."""
    record = old()
    record["verdict"]["after"] = record["verdict"]["before"]
    part = done_after(record, "quantize", 0.002, 6_200_000)
    part["settings"]["scheme"] = "int8"
    return {"kind": "quantize", "after": [part | {"full": None}]}


def not_finite():
    """A record whose losses are no numbers, wherever a search may meet one."""
    record = with_predictor()
    record["contributions"]["layers"][2] |= {"value": math.nan, "error_texts": None, "low": None}
    record["predictor"]["losses"][1] = math.nan
    record["choice"]["sizes"][0] |= {"excess": math.inf}
    record["choice"]["sizes"][0]["finalists"][0]["behind"] = None
    record["verdict"]["after"] |= {"nll": math.inf, "perplexity": math.inf}
    record["verdict"]["difference"]["nll"] = math.inf
    record["verdict"]["not_finite"] = 3
    record["player_times"]["seconds"][1] = math.nan
    return record


def without_a_cut():
    """A record of values: nothing was cut, judged or written."""
    record = with_predictor()
    for part in ("cut", "verdict", "size", "player_sizes", "predictor", "player_times"):
        del record[part]
    pair = {"players": [3, 5], "labels": ["3", "5"], "value": -0.02}
    pair |= {"error_sampling": 0.001, "error_texts": 0.001}
    of_pairs = {"name": "any", "unit": "nats per token", "base_coalitions": 9, "pairs": [pair]}
    return record | {"interactions": of_pairs}


def comparison():
    """Two methods at two amounts, each as cut and repaired."""
    text = old()["held_out"]
    rows = [
        _row(method, removed, loss)
        for removed in (2, 4)
        for method, loss in (
            ("guided", 0.1 * removed),
            ("guided+repair", 0.06 * removed),
            ("sleb", 0.12 * removed),
            ("sleb+repair", 0.09 * removed),
        )
    ]
    head = {"kind": "compare", "command": "coterie compare reference", "identity": {}}
    head |= {"model": "reference", "fingerprint": "x", "architecture": "Llama", "layers": 16}
    head |= {"locked": [], "dtype": "bfloat16", "device": "cpu", "calibration": text}
    head |= {"second": None, "held_out": [text], "tasks": [], "full": _row("full", 0, 0.0)}
    return head | {"rows": rows, "cells": [], "remarks": [], "versions": {}, "machine": {}}


def _row(method, removed, loss):
    mean = {"mean": loss, "error": 0.01}
    judged = {"length": 128, "nll": mean, "perplexity": mean, "against_full": mean}
    judged |= {"against_best": mean, "best": method == "guided+repair", "tied": False}
    judged["not_finite"] = 0
    judged |= {"seeds_low": loss, "seeds_high": loss}
    cost = {"layer_tokens_asked": 1e6 * (1 + loss), "layer_tokens_executed": 1e5, "seconds": 3.0}
    cost |= {"head_tokens": 1e4, "backward_layer_tokens": 0.0, "peak_bytes": None}
    size = {"parameters": 6e6 - 3e5 * removed, "bytes": 12e6 - 6e5 * removed}
    size |= {"tokens_per_second": 90.0, "speedup": 1 + 0.05 * removed}
    row = {"method": method, "title": method, "paper": None, "removed": removed, "gap": None}
    row |= {"sequences": 32, "seeds": 1, "answers": 1, "layers": "3, 5", "calibration": loss}
    row |= {"held_out": [judged], "cost": cost, "size": size, "accuracy": None, "tasks": {}}
    return row | {"accuracy_against_full": None}


def page_of(*records):
    """The page of some records."""
    return page([PageEntry(f"run {k}", _read(one)) for k, one in enumerate(records)])


def _read(record):
    if record["kind"] == "compare":
        return Comparison.from_json(record)
    return (Record if "search" in record else CheckpointRecord).from_json(record)
