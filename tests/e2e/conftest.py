"""The whole pipeline with stubs for world, twin and training."""

from types import SimpleNamespace

import pytest
import stubs
import torch

from samrl import benches, learning, pipeline, plans
from samrl.learn.dagger import DaggerSettings
from samrl.learn.expert import TrainSettings
from samrl.learn.q_function import QSettings
from samrl.learn.study import StudySettings
from samrl.learn.trials import TrySettings
from samrl.sim2real import evaluate

NAMES = ["nominal", "stress-tight"]


def make_world(name, task, settings):
    return stubs.StubWorld()


@pytest.fixture
def stubbed(monkeypatch):
    """pipeline, with everything slow replaced; presets keep their names."""
    expert = (TrainSettings(iterations=3), TrySettings(iterations=3))
    small = (*expert, 5, 2, DaggerSettings(iterations=2), QSettings(batches=2), StudySettings(states=2), 4)
    presets = {name: plans.Preset(2, *small, asserts=name == "smoke") for name in ("smoke", "quick")}
    chosen = SimpleNamespace(task_for=lambda task: task)
    worlds = SimpleNamespace(default=lambda: ("pybullet", ""), names=lambda: ["mujoco", "pybullet"], make=make_world)
    settings = SimpleNamespace(names=lambda: NAMES, load=lambda name: chosen, settings_hash=lambda: "abc123")
    monkeypatch.setattr(evaluate, "run_episode", stubs.run_episode)
    monkeypatch.setattr(plans, "PRESETS", presets)
    for module in (plans, benches):
        monkeypatch.setattr(module, "worlds", worlds)
    for module in (plans, benches, learning):
        monkeypatch.setattr(module, "world_settings", settings)
    monkeypatch.setattr(benches, "make_model", lambda task: stubs.model())
    monkeypatch.setattr(benches, "Eye", lambda *_, **__: None)
    monkeypatch.setattr(learning, "train", stubs.train)
    monkeypatch.setattr(learning, "_try", lambda expert, plan: 4)
    monkeypatch.setattr(learning, "Rehearsal", lambda *_, **__: None)
    monkeypatch.setattr(learning.dagger, "train", stubs.nudge(lambda actor, *_: actor, 1.0))
    monkeypatch.setattr(learning, "table", stubs.table)
    monkeypatch.setattr(learning, "sensing", SimpleNamespace(fit=stubs.fit_sensing))
    monkeypatch.setattr(learning, "Tools", stubs.Tools)
    for name in ("_look", "_batch", "_state"):
        monkeypatch.setattr(learning, name, getattr(stubs, name.removeprefix("_")))
    blank = torch.zeros(1, 2, 4, 4, 3), torch.zeros(1, 2, 4, 4)
    monkeypatch.setattr(learning, "saliency", lambda *_: blank)
    monkeypatch.setattr(learning.returns, "imagine", lambda *_: None)
    monkeypatch.setattr(learning, "q_function", SimpleNamespace(fit=stubs.nudge(lambda q, *_: q, 1.0)))
    return pipeline
