"""A world, a twin and a training that take microseconds, so that everything around them can be tried often."""

from types import SimpleNamespace

import numpy as np
import torch

from samrl.core import control
from samrl.core.types import ArmState, Capabilities, Observation, Transition
from samrl.learn.sensing import Sensing
from samrl.model.units import rigid
from samrl.plans import read_plan
from samrl.sim2real import evaluate
from samrl.sim2real.agent import ByExpert
from samrl.sim2real.control_loop import Episode, StepRecord
from samrl.tasks.peg_insertion import BLOCK_P, PEG_HALF_LENGTH, PegInsertion

STEPS = 4


class StubJudge:
    def __init__(self, world):
        self.world = world

    def poses(self):
        return {"block": self.world.block.copy(), "peg": self.world.peg.copy()}


class StubWorld:
    """The peg falls straight down; whether it meets the hole depends on the seed alone."""

    capabilities = Capabilities("stub")
    closed = 0

    def judge(self):
        return StubJudge(self)

    def reset(self, seed):
        rng = np.random.default_rng(seed)
        self.block, self.peg = np.eye(4), np.diag([1.0, -1.0, -1.0, 1.0])
        self.block[:3, 3] = np.asarray(BLOCK_P) + rng.uniform(-0.05, 0.05, 3)
        aside = 0.004 if rng.random() < 0.7 else 0.02
        self.peg[:3, 3] = self.block[:3, 3] + [aside, 0, 0.025 + PEG_HALF_LENGTH + 0.02]
        return self._observe()

    def act(self, action):
        self.peg[2, 3] -= 0.0125
        return Transition(self._observe(), action)

    def close(self):
        StubWorld.closed += 1

    def _observe(self):
        return Observation(ArmState(np.zeros(7), np.zeros(7), np.zeros(7), np.eye(4)), np.eye(4), 0.0)


def run_episode(world, model, task, agent, seed, *, horizon=None, snapshots=(), on_step=None, **_):
    """Like the real one, without a twin: the estimate starts at the origin, and each update takes three quarters of its
    error away. The action depends on the expert's weights, so that a wrong expert shows."""
    observation = world.reset(seed)
    truth = world.truths[-1]
    estimate = {b: np.eye(4) for b in truth}
    episode = Episode(seed, poses=[{b: X.tolist() for b, X in estimate.items()}])
    weight = float(sum(p.detach().sum() for p in agent.expert.policy.parameters()))
    for step in range(horizon or STEPS):
        estimate = {b: (X + 3 * world.truths[-1][b]) / 4 for b, X in estimate.items()}
        episode.poses.append({b: X.tolist() for b, X in estimate.items()})
        if step in snapshots:
            image = np.full((8, 8, 3), seed % 250, np.uint8)
            episode.frames.append({"step": step, "world": image, "before": image, "after": image + step})
        observation = world.act(np.full(6, weight)).observation
        times = {"look": 0.01, "update": 0.02, "view": 0.0, "policy": 0.001, "act": 0.01, "step": 0.002}
        record = StepRecord(step, [weight] * 6, times, 1.0, {}, {})
        episode.steps.append(record)
        if on_step and on_step(record, observation, estimate):
            break
    return episode


def model():
    return SimpleNamespace(gains=control.gains(), units=rigid(("block", "peg")), updatable=("block", "peg"))


def train(expert, settings, seed, progress=None):
    generator = torch.Generator().manual_seed(seed)
    for i in range(settings.iterations):
        for p in expert.policy.parameters():
            p.data += 1e-3 * torch.randn(p.shape, generator=generator)
        if progress:
            progress(i, 1.0 / (i + 1))
    return [1.0 / (i + 1) for i in range(settings.iterations)]


def nudge(pick, loss):
    """A training that moves every weight of the network that `pick` finds among its arguments a little."""

    def trained(*arguments, **_):
        for p in pick(*arguments).parameters():
            p.data += 1e-3
        return [loss]

    return trained


class Tools:
    """Seeds are all that the stubs of the pieces of work need."""

    def __init__(self, plan):
        self.plan = plan

    @staticmethod
    def of(folder):
        return Tools(read_plan(folder))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    brain = SimpleNamespace(actor=None, eye=None)

    def rehearsal(self, count, seed):
        return None


def table(rows, expert):
    n = len(rows)
    return torch.zeros(n, 2, 4), torch.tensor([[[r] * 6] * 2 for r in rows]), torch.ones(n, 2, dtype=torch.bool)


def fit_sensing(x, error, seen, seed):
    net = Sensing(x.shape[1], torch.Generator().manual_seed(seed))
    for p in net.parameters():
        p.data += float(error.mean())
    return net, 0.0


def look(tools, index):
    return {"index": index, "rows": [1e-3 * (tools.plan.seed_of(index) % 7 + 1)] * 5}


def batch(tools, index):
    n = 3
    shapes = {
        "q": (7,),
        "q_ref": (7,),
        "X_WE": (4, 4),
        "belief": (2, 4, 4),
        "sure": (2, 6, 6),
        "ray": (3,),
        "view": (3,),
        "value": (),
        "precision": (5,),
    }
    rng = np.random.default_rng(tools.plan.seed_of(index))
    return index, {name: rng.random((n, *shape), np.float32) for name, shape in shapes.items()}


def state(tools, index):
    rng = np.random.default_rng(tools.plan.seed_of(index))
    entry = lambda: {"view": [0.0, 0.5, 0.4], "success": [1.0, 0.0], "return": rng.random(2).tolist()}  # noqa: E731
    returns = rng.random((4, 2))
    return {
        "index": index, "views": rng.random((4, 3)).tolist(), "q": rng.random(4).tolist(), "return": returns.tolist(),
        "success": (returns > 0.5).astype(float).tolist(), "start": entry(), "chosen": {"Q": entry()}, "nine": [entry()],
        "cosine": [0.9], "actor mm": rng.random(4).tolist(),
    }  # fmt: skip


def make_bench(dumps):
    """A bench for a worker process, which has the stubs to put in place by itself."""
    from samrl.learn.expert import Expert

    evaluate.run_episode = run_episode
    task = PegInsertion()
    return evaluate.Bench(StubWorld(), model(), task, ByExpert(Expert(model(), task)), ("stub", "nominal", "expert"), dumps)
