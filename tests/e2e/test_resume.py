"""Killed anywhere and resumed equals straight through: the kill comes at every single write, before it, within it and
after it."""

import json
import os
from contextlib import suppress

import pytest

from samrl import benches, learning, plans
from samrl.core import runs
from samrl.core.errors import RunFolderError, UnknownNameError


class Killed(BaseException):
    """Like a kill: nothing may catch it and tidy up."""


class KillAt:
    """Counts the writes to disk, and dies at the n-th one: before it, in the middle of it, or after it."""

    def __init__(self, monkeypatch, n, when):
        self.count, self.n, self.when = 0, n, when
        monkeypatch.setattr(os, "replace", self.around(os.replace))
        monkeypatch.setattr(runs, "append_line", self.around(runs.append_line, tear))

    def around(self, write, torn=None):
        def counted(*arguments):
            self.count += 1
            if self.count == self.n and self.when == "before":
                raise Killed
            if self.count == self.n and self.when == "within" and torn:
                torn(*arguments)
                raise Killed
            write(*arguments)
            if self.count == self.n:
                raise Killed

        return counted


def tear(path, line):
    with open(path, "ab") as file:
        file.write(line.encode()[: len(line) // 2])


def figures(path):
    """What must be equal: every figure but the times, every record but its times, and the expert."""
    summary = json.loads((path / runs.SUMMARY).read_text())
    episodes = [{k: v for k, v in e.items() if k != "times"} for e in runs.RunFolder(path).episodes()]
    weights = [(path / runs.LEARN / name).read_bytes() for name in (benches.EXPERT, benches.SENSING, benches.ACTOR, benches.Q)]
    return summary["results"], episodes, weights


def straight(stubbed, path):
    stubbed.run(plans.make_plan("peg-insertion"), path, resume=False)
    return figures(path)


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_killed_at_every_write_and_resumed(stubbed, tmp_path, when):
    want = straight(stubbed, tmp_path / "straight")
    plan = plans.make_plan("peg-insertion")
    for n in range(1, 100):
        path = tmp_path / f"killed-{n}"
        with pytest.MonkeyPatch.context() as patch:
            kill = KillAt(patch, n, when)
            with suppress(Killed):
                stubbed.run(plan, path, resume=False)
        if kill.count < n:
            assert n > 15, "the sweep should have met all the writes of a run"
            return
        stubbed.run(plans.resumed_plan(path, "peg-insertion"), path, resume=True)
        assert figures(path) == want, f"killed {when} write {n}"
    raise AssertionError("the sweep never ended")


def test_a_finished_run_resumed_changes_nothing(stubbed, tmp_path, monkeypatch):
    want = straight(stubbed, tmp_path / "run")
    monkeypatch.setattr(learning, "train", lambda *_: pytest.fail("trained again"))
    stubbed.run(plans.make_plan("peg-insertion"), tmp_path / "run", resume=True)
    assert figures(tmp_path / "run") == want


def test_same_seed_same_summary_other_seed_other_expert(stubbed, tmp_path):
    want = straight(stubbed, tmp_path / "a")
    assert straight(stubbed, tmp_path / "b") == want
    stubbed.run(plans.make_plan("peg-insertion", seed=1), tmp_path / "c", resume=False)
    assert figures(tmp_path / "c")[2] != want[2]


def test_resume_takes_what_was_asked_for_and_refuses_anything_else(stubbed, tmp_path):
    path = tmp_path / "run"
    stubbed.run(plans.make_plan("peg-insertion", world="mujoco", seed=5), path, resume=False)
    plan = plans.resumed_plan(path, "peg-insertion")
    assert (plan.world, plan.seed) == ("mujoco", 5)
    with pytest.raises(RunFolderError, match="seed is 5 there and 6 here"):
        stubbed.run(plans.resumed_plan(path, "peg-insertion", seed=6), path, resume=True)


def test_other_world_settings_are_refused(stubbed, tmp_path, monkeypatch):
    straight(stubbed, tmp_path / "run")
    monkeypatch.setattr(plans.world_settings, "settings_hash", lambda: "other")
    with pytest.raises(RunFolderError, match="its figures would mix"):
        plans.resumed_plan(tmp_path / "run", "peg-insertion")


def test_evaluate_appends_what_is_missing(stubbed, tmp_path):
    path = tmp_path / "run"
    straight(stubbed, path)
    stubbed.evaluate(path, world="mujoco", settings="stress-tight", variant=None, seeds=range(10_000, 10_003), workers=1)
    stubbed.evaluate(path, world="mujoco", settings="stress-tight", variant=None, seeds=range(10_001, 10_005), workers=1)
    assert runs.RunFolder(path).done_seeds("mujoco", "stress-tight", "full") == set(range(10_000, 10_005))
    results = figures(path)[0]
    counts = {(f["world"], f["settings"]): f["count"] for f in results if f["metric"] == "success"}
    assert counts == {("pybullet", "nominal"): 4, ("mujoco", "stress-tight"): 5}


@pytest.mark.parametrize("variant", benches.FIXED)
def test_an_actor_for_the_fixed_view_is_trained_once(stubbed, tmp_path, variant):
    path = tmp_path / "run"
    straight(stubbed, path)
    given = {"world": None, "settings": None, "variant": variant, "workers": 1}
    stubbed.evaluate(path, seeds=range(10_000, 10_001), **given)
    weights = (path / runs.LEARN / benches.FIXED[variant]).read_bytes()
    stubbed.evaluate(path, seeds=range(10_000, 10_002), **given)
    assert runs.RunFolder(path).done_seeds("pybullet", "nominal", variant) == {10_000, 10_001}
    assert (path / runs.LEARN / benches.FIXED[variant]).read_bytes() == weights != figures(path)[2][2]


def test_evaluate_wants_an_expert(stubbed, tmp_path):
    stubbed.run_real2sim(plans.make_plan("peg-insertion"), tmp_path / "run", resume=False)
    with pytest.raises(RunFolderError, match="has not learned everything yet"):
        stubbed.evaluate(tmp_path / "run", world=None, settings=None, variant=None, seeds=range(3), workers=1)


@pytest.mark.parametrize("damage", [b"", b"not weights", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_broken_expert_is_a_sentence(stubbed, tmp_path, damage):
    straight(stubbed, tmp_path / "run")
    (tmp_path / "run" / runs.LEARN / "expert.safetensors").write_bytes(damage)
    with pytest.raises(RunFolderError, match=r"expert.safetensors cannot be read"):
        stubbed.evaluate(tmp_path / "run", world=None, settings=None, variant=None, seeds=range(3), workers=1)


def test_smoke_asserts(stubbed, tmp_path, monkeypatch):
    from samrl.core.errors import SamrlError

    plan = plans.make_plan("peg-insertion", preset="smoke")
    stubbed.run(plan, tmp_path / "good", resume=False)
    monkeypatch.setattr(learning, "_try", lambda expert, plan: 3)
    with pytest.raises(SamrlError, match="4 of 5, not in 3 of 5"):
        stubbed.run(plan, tmp_path / "bad", resume=False)


def test_the_mask_source_is_part_of_the_plan(stubbed, tmp_path):
    plan = plans.make_plan("peg-insertion", masks="segmenter")
    assert plan.masks == "segmenter" and benches.SEGMENT[plan.masks] is not None
    assert benches.SEGMENT[plans.make_plan("peg-insertion").masks] is None
    with pytest.raises(UnknownNameError, match="mask source"):
        plans.make_plan("peg-insertion", masks="wrold")
