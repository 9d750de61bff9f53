"""The whole pipeline with stubs for world, twin and training."""

from types import SimpleNamespace

import pytest
import stubs

from samrl import pipeline
from samrl.learn.expert import TrainSettings
from samrl.sim2real import evaluate

NAMES = ["nominal", "stress-tight"]


def make_world(name, task, settings):
    return stubs.StubWorld()


@pytest.fixture
def stubbed(monkeypatch):
    """pipeline, with everything slow replaced; presets keep their names."""
    presets = {
        name: pipeline.Preset(2, TrainSettings(iterations=3), 5, 4, asserts=name == "smoke") for name in ("smoke", "quick")
    }
    chosen = SimpleNamespace(task_for=lambda task: task)
    monkeypatch.setattr(evaluate, "run_episode", stubs.run_episode)
    monkeypatch.setattr(pipeline, "PRESETS", presets)
    monkeypatch.setattr(pipeline, "train", stubs.train)
    monkeypatch.setattr(pipeline, "make_model", lambda task: stubs.model())
    monkeypatch.setattr(pipeline, "_try", lambda expert, plan: 4)
    worlds = SimpleNamespace(default=lambda: ("pybullet", ""), names=lambda: ["mujoco", "pybullet"], make=make_world)
    monkeypatch.setattr(pipeline, "worlds", worlds)
    settings = SimpleNamespace(names=lambda: NAMES, load=lambda name: chosen, settings_hash=lambda: "abc123")
    monkeypatch.setattr(pipeline, "world_settings", settings)
    return pipeline
