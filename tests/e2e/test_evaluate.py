"""Episodes: what a record holds, that neither workers nor order change it, and that a controller learns nothing of it."""

import math
from functools import partial

import numpy as np
import pytest
import stubs

from samrl.core import guard
from samrl.core.errors import NonFiniteError
from samrl.sim2real import evaluate
from samrl.tasks.peg_insertion import PegInsertion


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "run_episode", stubs.run_episode)
    return stubs.make_bench(tmp_path)


def turned(axis, degrees, p=(0.0, 0.0, 0.0)):
    import torch

    from samrl.core import lie

    w = torch.tensor(axis, dtype=torch.float64) * math.radians(degrees)
    return lie.pose(lie.exp_so3(w), torch.tensor(p, dtype=torch.float64)).numpy()


@pytest.mark.parametrize(
    ("degrees", "folds", "want"),
    [(170, 2, 10), (170, 1, 170), (-30, 2, 30), (95, 4, 5), (77, 0, 0), (180, 2, 0), (180, 1, 180)],
)
def test_turns_that_do_not_show_are_not_counted(degrees, folds, want):
    found = evaluate.pose_error(turned((0, 0, 1), degrees), np.eye(4), folds)
    assert found["deg"] == pytest.approx(want, abs=1e-3) and found["mm"] == 0


def test_tilt_is_counted_whatever_the_symmetry():
    tilted = turned((1, 0, 0), 7, (0.003, 0.004, 0))
    for folds in (0, 1, 2):
        assert evaluate.pose_error(tilted, np.eye(4), folds) == {"mm": 5.0, "deg": pytest.approx(7, abs=1e-3)}


def test_symmetry_comes_from_the_solids():
    scene = PegInsertion().scene
    assert [evaluate.symmetry(scene.body(name)) for name in ("block", "peg")] == [(2, False), (0, True)]


def test_a_peg_has_two_equal_ends():
    flipped = turned((1, 0, 0), 177)
    assert evaluate.pose_error(flipped, np.eye(4), 0, True)["deg"] == pytest.approx(3, abs=1e-3)
    assert evaluate.pose_error(flipped, np.eye(4), 0, False)["deg"] == pytest.approx(177, abs=1e-3)


def test_a_record_holds_the_truth_beside_the_estimate(bench):
    record, frames = evaluate.run_one(bench, 10_000)
    errors = record["errors"]["block"]
    assert errors["after"]["mm"] == pytest.approx(errors["before"]["mm"] / 4, rel=1e-3)
    assert errors["last"]["mm"] < errors["after"]["mm"]
    assert set(record["measures"]) == {"lateral", "depth", "tilt"}
    assert record["success"] == (record["measures"]["lateral"] < 0.009 and record["measures"]["depth"] >= 0.015)
    assert all(len(v) == record["steps"] for v in record["times"].values()) and frames


def test_an_episode_ends_with_success(bench):
    records = [evaluate.run_one(bench, seed)[0] for seed in range(10_000, 10_010)]
    assert {r["steps"] for r in records if r["success"]} == {3} and {r["steps"] for r in records if not r["success"]} == {4}


def test_workers_change_nothing(tmp_path):
    seeds = range(10_000, 10_004)
    make = partial(stubs.make_bench, tmp_path)
    alone = [r for r, _ in evaluate.run_many(make, seeds, 1)]
    together = [r for r, _ in evaluate.run_many(make, seeds, 2)]
    assert sorted(together, key=lambda r: r["seed"]) == alone


def test_the_world_is_closed_even_when_stopped_half_way(tmp_path):
    before = stubs.StubWorld.closed
    ended = evaluate.run_many(partial(stubs.make_bench, tmp_path), range(3), 1)
    next(ended)
    ended.close()
    assert stubs.StubWorld.closed == before + 1


def test_a_number_that_is_not_finite_leaves_what_replays_it(bench, monkeypatch, tmp_path):
    def fail(world, *_, **__):
        world.reset(7)
        world.act(np.arange(6.0))
        raise NonFiniteError("q holds 1 non-finite numbers of 7, the first at index (0,).")

    monkeypatch.setattr(evaluate, "run_episode", fail)
    with pytest.raises(NonFiniteError, match=r"seed 7: q holds .* the same seed replays it"):
        evaluate.run_one(bench, 7)
    (path,) = tmp_path.glob("*.npz")
    assert guard.load(path)["actions.0"].tolist() == list(range(6))


def test_the_witness_tells_the_controller_nothing_that_the_world_does_not(bench):
    from samrl.core.world import World

    witness = evaluate.Witness(bench.world, bench.task)
    public = {n for n in dir(witness) if not n.startswith("_")}
    assert public - {"truths", "applied", "looks", "measures", "success"} == {
        n for n in (*World.__annotations__, *vars(World)) if not n.startswith("_")
    }
