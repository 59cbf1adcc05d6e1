"""`--cluster`: workers of a Ray cluster give the answer of one machine, or one line says why not.

Most of it runs on a stand-in for Ray in this process; the last tests start two nodes of Ray itself.
"""

import os
import signal
import socket
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fake_ray import FakeRay
from tests.tiny import save_llama, save_text

from coterie.cli import main
from coterie.engine.batch_shape import BatchShape
from coterie.engine.cluster import connect, ray_crew, recruits, worker
from coterie.engine.cluster.limits import Limits
from coterie.engine.cluster.slots import Needs, needs_on
from coterie.errors import MachineError, UserError
from coterie.game.coalitions import observe_all
from coterie.store.observations import Store
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.compare.run import compare
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.whole import prune
from coterie.verbs.shared import opened_cluster
from coterie.verbs.shared.opened_cluster import on_cluster
from coterie.verbs.shared.opened_model import opened_model
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.run import sparsify
from coterie.verbs.values.request import ValuesRequest
from coterie.verbs.values.run import values

SHAPE = BatchShape(8, 64, 400)


class Said(NoProgress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return ValuesRequest(
        model=str(save_llama(home / "model", n_layers=5, dtype=torch.float32)),
        estimator="exact",
        calibration=str(save_text(home / "text.txt")),
        sequences=3,
        length=12,
        device="cpu",
        dtype="float32",
    )


@pytest.fixture(scope="module")
def alone(request_, tmp_path_factory):
    """The record of one machine and its facts; the batch shape is set: it decides last bits."""
    store = tmp_path_factory.mktemp("alone") / "store.sqlite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coterie.engine.model_game.probe_shape", lambda *_: SHAPE)
        record = values(request_, store=store).record.as_json()
    return record, facts(store)


@pytest.fixture
def fake(monkeypatch):
    """A stand-in for Ray with two nodes of one processor."""
    ray = FakeRay(1, 1)
    for module in (connect, worker):
        monkeypatch.setattr(module, "ray_library", lambda: ray)
    monkeypatch.setattr(connect, "check_reachable", lambda address: None)
    monkeypatch.setattr(ray_crew, "POLL", 0.01)
    monkeypatch.setattr(recruits, "SETTLE", 0.1)
    monkeypatch.setattr("coterie.engine.model_game.probe_shape", lambda *_: SHAPE)
    return ray


def facts(path):
    with sqlite3.connect(path) as db:
        found = db.execute(
            "SELECT fingerprint, coalition, sequence, nll, kl, top1 FROM observation"
            " JOIN game ON game.id = observation.game ORDER BY 1, 2, 3"
        ).fetchall()
    return [row[:3] for row in found], np.array([row[3:] for row in found], dtype=float)


def opened(request, tmp_path, progress=None):
    asked = replace(request, cluster="auto")
    prepared = prepare(asked, progress=NoProgress(), choosing=False)
    store = Store(tmp_path / "store.sqlite")
    return prepared, on_cluster(prepared, store, progress or NoProgress())


def same_but_for_who(record, other):
    told = {"cluster", "command", "budget", "machine"}
    for name in record.keys() - told:
        assert close(record[name], other[name]), name
    for name in ("distinct", "layer_tokens_asked", "head_tokens", "not_finite"):
        assert record["budget"][name] == other["budget"][name]


def close(one, other):
    """Whether two pieces of JSON are equal but for the last bits of their numbers."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == (pytest.approx(other, abs=1e-5) if isinstance(other, float) else other)


def test_workers_give_the_facts_and_the_record_of_one_machine(request_, alone, fake, tmp_path):
    store = tmp_path / "store.sqlite"
    record = values(replace(request_, cluster="auto"), store=store).record.as_json()
    same_but_for_who(record, alone[0])
    (names, seen), (again, expected) = facts(store), alone[1]
    assert names == again
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    part = record["cluster"]
    assert part["nodes"] == 2 and part["worker"] == "1 processor" and part["faults"] == []
    assert sum(one["coalitions"] for one in part["workers"]) == 2**5
    assert 0 <= part["done_twice"] < 1 and part["bytes_moved"] > 0
    assert not fake.alive and not fake.groups
    # A second run asks the cluster nothing: the driver's store knows.
    record = values(replace(request_, cluster="auto"), store=store).record.as_json()
    assert record["budget"]["head_tokens"] == 0


def test_prune_sparsify_and_compare_ask_the_workers_too(request_, fake, tmp_path):
    shared = {
        name: getattr(request_, name)
        for name in ("model", "calibration", "sequences", "length", "device", "dtype")
    }
    cut = PruneRequest(**shared, remove=1, method="greedy", repair="none", cluster="auto")
    sparse = SparsifyRequest(
        **shared, sparsity=0.5, allocation="uniform", pruner="magnitude", cluster="auto"
    )
    contest = CompareRequest(
        **shared, removals=(1,), methods=("greedy",), seeds=1, rounds=0, cluster="auto"
    )
    store = tmp_path / "store.sqlite"
    records = [
        prune(cut, output=tmp_path / "cut", store=store).record,
        sparsify(sparse, output=tmp_path / "sparse", store=store),
        compare(contest, store=store),
    ]
    for record in records:
        assert record.cluster is not None and record.cluster.nodes == 2
        assert type(record).from_json(record.as_json()).cluster == record.cluster
    assert sum(worker.coalitions for worker in records[0].cluster.workers) > 5
    assert not fake.alive and not fake.groups


def test_neither_the_cluster_nor_a_finished_run_is_part_of_what_was_asked(request_):
    asked = replace(request_, cluster="10.1.2.3:6379", worker_cpus=4)
    assert asked.as_json() == request_.as_json()
    assert "--cluster auto --worker-cpus 4" in asked.command() and "10.1" not in asked.command()
    sparse = SparsifyRequest(request_.model, sparsity=0.5, cluster="auto")
    assert sparse.opening().cluster == "auto" and "cluster" not in sparse.as_json()


def test_a_worker_that_dies_at_any_part_changes_no_fact(request_, alone, fake, tmp_path):
    prepared, cluster = opened(request_, tmp_path)
    with cluster as model:
        game = model.play(prepared.calibration)
        everyone = np.unravel_index(np.arange(32), (2,) * 5)
        coalitions = np.stack(everyone, axis=1).astype(bool)
        expected = observe_all(game.engine.local, coalitions)
        for at in range(2):
            asked = 0

            def die(actor, at=at):
                nonlocal asked
                actor.dead = actor.dead or asked == at
                asked += 1

            fake.on_ask = die
            np.testing.assert_allclose(
                observe_all(game.engine, coalitions).nll, expected.nll, atol=1e-6
            )
        gone = [line for line in model.faults if "is gone" in line]
        assert len(gone) == 2 and gone[0].startswith("worker 1 is gone")
        assert set(model.faults) <= set(game.engine.remarks)
        part = model.cluster_part()
        assert part.asked_again >= 2 and [one.end for one in part.workers].count(None) >= 1
    assert not fake.alive and not fake.groups


def test_ctrl_c_frees_the_cluster(request_, fake, tmp_path):
    prepared, cluster = opened(request_, tmp_path)

    def interrupted(actor):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), cluster as model:  # noqa: PT012 - leaving it is the test
        fake.on_ask = interrupted
        observe_all(model.play(prepared.calibration).engine, np.ones((1, 5), dtype=bool))
    assert not fake.alive and not fake.groups


def test_what_only_the_driver_has_is_shipped_and_compared(request_, fake, tmp_path, monkeypatch):
    nowhere(monkeypatch)
    said = Said()
    _, cluster = opened(request_, tmp_path, said)
    with cluster as model:
        assert model.cluster_part().bytes_moved > 0
    assert any("worker 2 is ready, on node 2 (10.0.0.2, process" in line for line in said.lines)


def nowhere(monkeypatch):
    """Workers look for the model where it is not."""
    terms = opened_cluster._terms

    def elsewhere(*given):
        found = terms(*given)
        return replace(found, job=replace(found.job, folder="/nowhere/model"))

    monkeypatch.setattr(opened_cluster, "_terms", elsewhere)


def test_a_worker_without_the_folder_to_stream_from_is_named(request_, fake, tmp_path, monkeypatch):
    nowhere(monkeypatch)
    _, cluster = opened(replace(request_, stream=True), tmp_path)
    told = r"worker 1 on 10\.0\.0\.1 has not got the model .*put its folder there"
    with pytest.raises(UserError, match=told), cluster:
        pass
    assert not fake.alive and not fake.groups


def test_streamed_from_disk_by_workers_as_by_one(request_, fake, tmp_path):
    streamed = replace(request_, stream=True)
    one = values(streamed, store=tmp_path / "one.sqlite").record.as_json()
    two = values(replace(streamed, cluster="auto"), store=tmp_path / "two.sqlite").record.as_json()
    two["budget"]["head_tokens"] = one["budget"]["head_tokens"]  # the full model is in each pass
    same_but_for_who({k: v for k, v in two.items() if k != "streaming"}, one)
    (names, seen), (again, expected) = (facts(tmp_path / f"{n}.sqlite") for n in ("one", "two"))
    assert names == again
    np.testing.assert_allclose(seen, expected, atol=1e-5)
    assert two["streaming"]["bytes_read"] > one["streaming"]["bytes_read"]


@pytest.mark.parametrize(
    ("what", "value", "told"),
    [
        ("weights", "0123", "weights is"),
        ("dtype", "float16", "dtype is float16, and the driver's is float32"),
        (
            "versions",
            {"coterie": "9", "torch": "9", "transformers": "9"},
            "version of coterie is 9",
        ),
    ],
)
def test_a_worker_that_differs_is_refused_by_name(
    request_, fake, tmp_path, monkeypatch, what, value, told
):
    passport = worker.passport

    def other(*given):
        found = passport(*given)
        return replace(found, **{what: value}) if fake.running.node == 2 else found

    monkeypatch.setattr(worker, "passport", other)
    _, cluster = opened(request_, tmp_path)
    with pytest.raises(UserError, match=f"worker 2 on 10.0.0.2 is not like this machine: {told}"):
        cluster.__enter__()
    assert not fake.alive and not fake.groups


def test_a_taken_cluster_is_waited_for_and_a_second_driver_takes_what_is_free(
    request_, fake, tmp_path, monkeypatch
):
    taken = [fake.util.placement_group([{"CPU": 1}]) for _ in range(2)]
    monkeypatch.setattr(ray_crew, "WAITING", 0.3)
    said = Said()
    _, cluster = opened(request_, tmp_path, said)
    with pytest.raises(
        MachineError, match=r"no machine of the cluster became free .*--worker-cpus"
    ):
        cluster.__enter__()
    assert any("waiting for a free machine" in line for line in said.lines)
    assert fake.groups == taken
    fake.groups.pop()
    prepared, cluster = opened(request_, tmp_path)
    with cluster as model:
        engine = model.play(prepared.calibration).engine
        assert engine.at_once == 1
        assert np.isfinite(observe_all(engine, np.ones((1, 5), dtype=bool)).nll).all()
    assert fake.groups == taken[:1]


def test_what_a_worker_needs_is_read_off_the_nodes():
    nodes = [{"Alive": True, "Resources": has} for has in ({"CPU": 8.0}, {"CPU": 4.0, "GPU": 2.0})]
    assert needs_on(nodes, "cpu", "cpu", None) == Needs(4)
    assert needs_on(nodes, "cpu", "cpu", 3).on(nodes[0]) == 2
    assert needs_on(nodes, "cuda", "auto", None) == Needs(1, 1)
    assert needs_on(nodes, "cuda", "auto", None).on(nodes[1]) == 2
    with pytest.raises(UserError, match="the cluster has 2 GPUs and this machine none"):
        needs_on(nodes, "cpu", "auto", None)
    with pytest.raises(UserError, match="no node of the cluster has 9 processors"):
        needs_on(nodes, "cpu", "cpu", 9)


@pytest.fixture
def nobody():
    """An address at which nobody answers."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{line.getsockname()[1]}"


@pytest.fixture
def somebody():
    """An address at which something else than Ray answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            line, _ = server.accept()
            line.sendall(b"220 mail ready\r\n")
            line.close()

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_where_no_cluster_answers_is_one_line_at_once(nobody, somebody, capsys):
    began = time.monotonic()
    for address, told in (
        (nobody, "cannot be reached"),
        (somebody, "answered by something else than Ray"),
        ("ray://head:10001", "is no address of a cluster"),
    ):
        assert main(["values", "reference", "--cluster", address]) == 2
        assert told in capsys.readouterr().err.strip().splitlines()[-1]
    assert time.monotonic() - began < 15


def test_what_ray_prints_by_itself_does_not_reach_a_report(capsys):
    out = connect._WithoutRay(connect.sys.stdout)
    thread = threading.Thread(target=print, args=("(raylet) died",), kwargs={"file": out})
    thread.name = "ray_listen_error_messages"
    thread.start()
    thread.join()
    print("{}", file=out)
    assert capsys.readouterr().out == "{}\n"


def test_without_ray_one_line_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(connect, "find_spec", lambda name: None)
    assert main(["values", "reference", "--cluster", "auto"]) == 2
    assert "pip install 'coterie[cluster]'" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--worker-cpus", "2"], "--worker-cpus goes with --cluster"),
        (["--cluster", "auto", "--utility", "kl=1"], "--utility is played on this machine"),
        (["--cluster", "auto", "--device", "cpu,cpu"], "--cluster uses one"),
    ],
)
def test_what_does_not_go_together_is_refused(words, told, capsys):
    assert main(["values", "reference", *words]) == 2
    assert told in capsys.readouterr().err.strip().splitlines()[-1]


# From here on with Ray itself: two nodes of one processor on this machine.
@pytest.fixture(scope="module")
def nodes():
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - else a busy machine leaves them nothing
    connect.ray_library()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
    cluster = Cluster()
    try:
        cluster.add_node(include_dashboard=False, no_monitor=True, **node)
        cluster.add_node(**node)
    except Exception as error:  # Ray gives its own helpers 15 s to start
        cluster.shutdown()
        pytest.skip(f"Ray did not start here: {error}")
    yield cluster
    cluster.shutdown()


def test_two_nodes_give_the_record_of_one_machine(request_, alone, nodes, tmp_path, monkeypatch):
    # So short a deadline, where one is to hang, and patience with a busy machine.
    store, limits = tmp_path / "store.sqlite", Limits(floor=5.0, alone=600.0)
    monkeypatch.setattr(recruits, "SETTLE", 300.0)  # both workers are waited for
    nowhere(monkeypatch)  # shipped through the object store of Ray
    asked = replace(request_, cluster=nodes.address)
    # The shape of the single run: the workers choose none of their own.
    prepared = prepare(asked, progress=NoProgress(), choosing=False)
    with Store(store) as kept, opened_model(prepared, kept, NoProgress()) as model:
        crew, calibration = model._crew, prepared.calibration
        kept.write_note(model._local.number(calibration), "shape", SHAPE.to_dict())
        engine = model.play(calibration).engine
        engine.limits = limits
        assert engine.shape == SHAPE and engine.at_once == 2
        coalitions = np.random.default_rng(0).random((64, 5)) < 0.6
        expected = observe_all(engine.local, coalitions)
        pids = {name: crew.workers[name].process for name in crew.members()}
        observe_all(engine, coalitions)  # from here on every worker's speed is known
        for name, fate in zip(pids, (signal.SIGSTOP, signal.SIGKILL), strict=True):
            with suppress(ProcessLookupError):  # a slow one may be gone already
                os.kill(pids[name], fate)
            seen = observe_all(engine, coalitions)
            np.testing.assert_allclose(seen.nll, expected.nll, atol=1e-6)
        np.testing.assert_allclose(observe_all(engine, coalitions).nll, expected.nll, atol=1e-6)
        gone = " ".join(model.faults)
        assert all(f"{name} is gone" in gone for name in pids)
    # Another run on the same nodes, once more from the beginning.
    record = values(asked, store=tmp_path / "again.sqlite").record.as_json()
    same_but_for_who({k: v for k, v in record.items() if k != "search"}, alone[0])
    assert record["cluster"]["nodes"] == 2
    assert not [pid for pid in pids.values() if _runs(pid)]


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
