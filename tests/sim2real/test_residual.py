"""The residual starts at zero, stays within its bound, learns what is to be corrected, and survives a restart."""

from contextlib import nullcontext
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

from samrl import pipeline
from samrl.core.camera import Camera, look_at
from samrl.core.errors import RunFolderError
from samrl.core.types import RGBD
from samrl.sim2real import residual
from samrl.sim2real.residual import OBSERVED, SAYS, SEES, ResidualSettings

LIMITS = torch.tensor([0.02] * 3 + [0.1] * 3)
ACTOR = SimpleNamespace(policy=SimpleNamespace(limits=LIMITS))
WIDTH = 0.03  # of a crop [m]
SMALL = ResidualSettings(batch=32, train=2, noise=-1.0)


class Push(gymnasium.Env):
    """One step; what is wanted is to go along the first axis, whatever is seen."""

    observation_space, action_space, s, real_steps = SEES, SAYS, SMALL, 0

    def reset(self, *, seed=None, options=None):
        self.generator = np.random.default_rng(seed)
        return self.generator.normal(size=OBSERVED).astype(np.float32), {}

    def step(self, action):
        self.real_steps += 2
        reward = 1.0 - abs(float(action[0]) - 0.6) - self.s.effort * float(np.square(action).sum())
        return self.generator.normal(size=OBSERVED).astype(np.float32), reward, True, False, {}


def said(sac, seed=0):
    seen = np.random.default_rng(seed).normal(size=(16, OBSERVED)).astype(np.float32)
    return sac.predict(seen, deterministic=True)[0]


def test_untrained_it_changes_no_bit():
    sac = residual.fresh(Push(), SMALL, 0)
    action = torch.tensor([0.02, -0.0137, 1e-9, 0.1, -0.1, 0.03])
    action[0] = 1.2 * LIMITS[0]  # of a tool that is turned
    assert not said(sac).any()
    assert torch.equal(residual.corrected(action, said(sac)[0], ACTOR), action)


def test_it_stays_within_its_bound_and_the_limits():
    share = np.ones(6, np.float32)
    assert torch.allclose(residual.corrected(torch.zeros(6), share, ACTOR), residual.BOUND * LIMITS)
    assert torch.equal(residual.corrected(LIMITS, share, ACTOR), LIMITS)


def test_it_learns_what_is_to_be_corrected():
    env = Push()
    sac = residual.fresh(env, SMALL, 0)
    for seed in range(450):
        assert residual.practise(sac, env, seed)
    mean = said(sac)[:, 0].mean()
    assert mean > 0.25, f"it should have gone from 0 towards .6, not to {mean:.2f}"
    assert np.abs(said(sac)[:, 1:]).mean() < 0.1, "the other axes are worth nothing, and cost something"


def test_a_restart_goes_on_as_if_there_had_been_none(tmp_path):
    def practise(sac, env, seeds):
        for seed in seeds:
            residual.practise(sac, env, seed)

    straight = residual.fresh(Push(), SMALL, 0)
    practise(straight, Push(), range(50))
    stopped = residual.fresh(Push(), SMALL, 0)
    practise(stopped, Push(), range(40))
    residual.save(stopped, tmp_path / "residual.pt", {"real steps": 80, "successes": [True] * 40})
    again = residual.fresh(Push(), SMALL, 0)
    assert residual.load(again, tmp_path / "residual.pt")["real steps"] == 80
    practise(again, Push(), range(40, 50))
    assert np.array_equal(said(again), said(straight))


def test_a_broken_file_is_a_sentence(tmp_path):
    (tmp_path / "residual.pt").write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match="cannot be read"):
        residual.read(tmp_path / "residual.pt")


def test_each_look_and_each_act_is_a_step_and_none_goes_beyond_the_limit(monkeypatch):
    class World:
        looks = 0

    class Loop:
        def __init__(self, world, *_, **__):
            self.world, self.step, self.twin = world, 0, None

        def begin(self, seed):
            pass

        def sense(self):
            self.world.looks += 2 if self.step == 0 else 1
            return torch.zeros(6)

        def act(self, action):
            self.step += 1

    world = World()
    world.success = lambda: False
    task = SimpleNamespace(
        horizon=60, cost=lambda m: torch.tensor(1.0), success=lambda m: torch.tensor(False), measures=lambda *_: {}
    )
    bench = SimpleNamespace(world=world, model=SimpleNamespace(poses=lambda twin: {}), task=task, agent=None, segment=None)
    monkeypatch.setattr(residual, "Witness", lambda w, _: w)
    monkeypatch.setattr(residual, "Loop", Loop)
    monkeypatch.setattr(residual, "observe", lambda *_: np.zeros(OBSERVED, np.float32))
    env = residual.RealSteps(bench, ACTOR, SMALL, limit=12)
    env.reset(seed=0)
    over = False
    while not over:
        *_, over, _ = env.step(np.zeros(6, np.float32))
    assert env.loop.step == 5 and world.looks == 6 and env.real_steps == 11 and not env.affords()


def test_it_corrects_only_where_both_critics_say_so_and_the_twin_alone_promises_little(monkeypatch):
    sac = residual.fresh(Push(), SMALL, 0)
    learned, seen = residual.LearnedResidual(sac, ACTOR), np.zeros(OBSERVED, np.float32)
    share = np.full(6, 0.5, np.float32)
    agree = lambda seen, a: (a.sum(-1, keepdim=True), a.sum(-1, keepdim=True))  # noqa: E731
    differ = lambda seen, a: (a.sum(-1, keepdim=True), -a.sum(-1, keepdim=True))  # noqa: E731
    hopeful = lambda seen, a: tuple(residual.HOPE + q for q in agree(seen, a))  # noqa: E731
    for critics, better in ((agree, True), (differ, False), (hopeful, False)):
        monkeypatch.setattr(sac.critic, "forward", critics)
        assert learned._better(seen, share) is better


def test_what_was_learned_after_some_real_steps_is_kept(tmp_path, monkeypatch):
    class Env:
        s = SMALL

        def __init__(self, bench, actor, settings, limit):
            self.limit, self.real_steps = limit, 0

        def affords(self):
            return self.real_steps + 3 <= self.limit

    def practise(sac, env, seed):
        env.real_steps = min(env.real_steps + 66, env.limit - 2)
        return True

    values = SimpleNamespace(residual=800)
    monkeypatch.setattr(pipeline, "read_plan", lambda _: SimpleNamespace(values=values, world="", settings="", seed_of=int))
    monkeypatch.setattr(pipeline, "bench_of", lambda *_: nullcontext())
    monkeypatch.setattr(pipeline, "brain_of", lambda _: SimpleNamespace(actor=None))
    monkeypatch.setattr(residual, "RealSteps", Env)
    monkeypatch.setattr(residual, "fresh", lambda *_: None)
    monkeypatch.setattr(residual, "practise", practise)
    monkeypatch.setattr(residual, "save", lambda sac, path, told: path.write_text(str(told["real steps"])))
    pipeline.learn_residual(SimpleNamespace(stage=lambda _: tmp_path))
    kept = {path.name: path.read_text() for path in tmp_path.glob("residual*.pt")}
    assert kept == {"residual-200.pt": "198", "residual-800.pt": "798", "residual.pt": "798"}


def test_its_reward_is_what_the_twin_believes_and_no_more_than_a_step_can_bring(monkeypatch):
    class Loop:
        def __init__(self, *_, **__):
            self.believed, self.step = [10.0, 9.0, 0.0], 0

        def begin(self, seed):
            pass

        def sense(self):
            self.twin = self.believed[self.step]
            return torch.zeros(6)

        def act(self, action):
            self.step += 1

    task = SimpleNamespace(
        horizon=60, cost=lambda m: m["believed"], success=lambda m: torch.tensor(False), measures=lambda poses, _: poses
    )
    model = SimpleNamespace(poses=lambda twin: {"believed": twin})
    bench = SimpleNamespace(
        world=SimpleNamespace(looks=0, success=lambda: False), model=model, task=task, agent=None, segment=None
    )
    monkeypatch.setattr(residual, "Witness", lambda w, _: w)
    monkeypatch.setattr(residual, "Loop", Loop)
    monkeypatch.setattr(residual, "observe", lambda *_: np.zeros(OBSERVED, np.float32))
    env = residual.RealSteps(bench, ACTOR, SMALL, limit=100)
    env.reset(seed=0)
    rewards = [env.step(np.zeros(6, np.float32))[1] for _ in range(2)]
    assert rewards == pytest.approx([0.1, 0.1 * residual.MOST])


def test_it_sees_the_real_image_as_wide_as_the_actor_does():
    """Pixels whose colour says where they are, so that the crop's edges say what was cut out; the tip is not in the middle."""
    X_WC = look_at(torch.tensor([0.5, 0.0, 0.4], dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    camera, tip = Camera.from_fov(96, 96, 0.2, X_WC), torch.tensor([0.005, 0.01, 0.0])
    u, v, z = camera.project(tip.double()[None])[0].tolist()
    x, y = np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5)
    color = np.stack([x / 96, y / 96, 0 * x], -1)
    whole = RGBD(color, np.full((96, 96), z + 0.003), np.ones((96, 96), bool), {}, camera)
    side = WIDTH * float(camera.K[0]) / z / 2
    seen = residual.near([whole], tip, WIDTH)
    assert seen.shape == (64, 64, 5)
    line = 96 * (seen[32, :, 0] + 0.5)
    assert float((line[0] + line[-1]) / 2) == pytest.approx(u, abs=0.05)
    assert float(line[-1] - line[0]) == pytest.approx(2 * side * 63 / 64, abs=0.05)
    assert float(96 * (seen[:, 32, 1] + 0.5).mean()) == pytest.approx(v, abs=0.05)
    assert float(seen[..., 3].mean()) == pytest.approx(0.003 / WIDTH, abs=1e-3)
