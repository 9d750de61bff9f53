"""`samrl bench`: how fast the twin and the control loop are on this machine. Everything is simulated and untrained."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
import warp as wp
from torch import Tensor

from samrl import benches, plans
from samrl.core.camera import Camera, look_at
from samrl.core.errors import SamrlError
from samrl.core.progress import track
from samrl.learn.expert import random_start
from samrl.model.physics import Physics
from samrl.model.render import Renderer
from samrl.model.scene import Params, State
from samrl.sim2real.agent import ChosenView
from samrl.sim2real.control_loop import make_model, run_episode
from samrl.tasks import registry as tasks
from samrl.worlds import registry as worlds
from samrl.worlds import settings as world_settings

TASK, SIZE, PERIODS, SUBSTEPS = "peg-insertion", 128, 20, 20
STAGES = {"view": "choice of the view", "update": "update", "policy": "action", "step": "prediction"}


def machine(device: str = "cpu") -> str:
    """A sentence about where this runs. SamrlError if there is no such device."""
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
        there = kind == "cpu" or (kind == "cuda" and index < torch.cuda.device_count())
    except RuntimeError:  # no name of a device
        there = False
    if not there:
        raise SamrlError(f"--device {device}: PyTorch finds no such device here; cpu would do.")
    where = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else f"{_threads('cpu')[-1]} cores"
    return f"{where}, PyTorch {torch.__version__}, Warp {wp.__version__}; 'many' means {_threads(device)[-1]} threads"


def render(device: str = "cpu", repeats: int = 20) -> list[str]:
    """Rows of milliseconds for a view of the task's scene and its gradient by all poses and the camera."""
    task = tasks.make(TASK)
    model = make_model(task)
    twin, _ = random_start(model, task, 1, torch.Generator().manual_seed(0))
    X_WL, middle = model.link_poses(twin)[0], model.poses(twin, ("block",))["block"][0, :3, 3]
    rows = [f"image and gradient, {SIZE} x {SIZE} pixels, {model.renderer.triangles} triangles; ms a view, least of {repeats}"]
    for count in (1, 32):
        eye = middle + torch.tensor([0.35, 0.2, 0.3]) + 0.03 * torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
        c = Camera.from_fov(SIZE, SIZE, 0.5, look_at(eye, middle))
        camera = Camera(SIZE, SIZE, c.K.to(device), c.X_WC.to(device))
        spent = []
        for threads in _threads(device):
            renderer = Renderer(model.scene, masks=model.updatable, threads=threads, device=device)
            run = partial(_draw_and_back, renderer, model.params.to(device), X_WL.to(device), camera)
            spent.append(1e3 * best(run, repeats) / count)
        rows.append(f"{count:4d} views: {_by_threads(spent, '{:.2f} ms', fewer=True)}")
    return rows


def _draw_and_back(renderer: Renderer, params: Params, X_WL: Tensor, camera: Camera) -> None:
    X_WL, X_WC = X_WL.clone().requires_grad_(), camera.X_WC.clone().requires_grad_()
    image = renderer.render(params, X_WL, camera.at(X_WC))
    parts = [image.color, *image.masks.values()]
    grads = torch.autograd.grad(parts, [X_WL, X_WC], [torch.ones_like(p) for p in parts])
    float(grads[0].sum())  # waits for the device


def physics(device: str = "cpu", repeats: int = 5, counts: Sequence[int] = (1, 32, 256)) -> list[str]:
    """Rows of steps a second of the task's scene, forward, and forward and back."""
    task = tasks.make(TASK)
    model = make_model(task)
    rows = [f"steps of {1e3 * model.physics.timestep:g} ms a second, arm, peg and block; best of {repeats}"]
    for count in counts:
        twin, command = random_start(model, task, count, torch.Generator().manual_seed(0))
        state = State(twin.state.q.to(device), twin.state.qd.to(device))
        points = command.q_ref.to(device).expand(PERIODS, *command.q_ref.shape).contiguous()
        rates: dict[bool, list[float]] = {False: [], True: []}
        for threads in _threads(device):
            simulate = Physics(model.scene, timestep=model.physics.timestep, threads=threads, device=device)
            for back, found in rates.items():
                run = partial(_roll, simulate, twin.params.to(device), state, points, back)
                found.append(PERIODS * SUBSTEPS * count / best(run, repeats) / 1e3)
        forth, both = (_by_threads(found, "{:.0f}k", fewer=False) for found in rates.values())
        rows.append(f"{count:4d} environments: forward {forth}; and back {both}")
    return rows


def _roll(simulate: Physics, params: Params, state: State, points: Tensor, back: bool) -> None:
    points = points.clone().requires_grad_(back)
    total = simulate.rollout(params, state, points, substeps=SUBSTEPS).q.sum()
    if back:
        (total,) = torch.autograd.grad(total, points)
    float(total.sum())  # waits for the device


def loop(steps: int = 24) -> list[str]:
    """Rows of milliseconds a control step, by stage, in an episode of the default world with networks that are untrained."""
    plan = plans.make_plan(TASK)
    brain = benches.untrained(plan)
    for net in (brain.actor, brain.q):
        net.eval()
    task = brain.expert.task
    world = worlds.make(plan.world, task, world_settings.load("nominal"))
    agent = ChosenView(brain.viewpoint(), brain.expert, brain.eye)
    with track("control steps", steps) as advance:
        run_episode(world, brain.expert.model, task, agent, 0, horizon=2)  # loads the kernels
        episode = run_episode(world, brain.expert.model, task, agent, 0, horizon=steps, on_step=lambda *_: advance())
    world.close()
    rows = [f"a control step in {plan.world}, one thread but for kernels, medians of {len(episode.steps) - 2} steps"]
    for moved, what in ((True, "a view is chosen"), (False, "the view stays")):
        records = [r for r in episode.steps[2:] if r.moved == moved]  # the first looks from far
        if records:
            median = {k: 1e3 * statistics.median(r.times.get(k, 0.0) for r in records) for k in STAGES}
            parts = ", ".join(f"{name} {median[k]:.0f}" for k, name in STAGES.items())
            rows.append(f"where {what} ({len(records)} steps): {sum(median.values()):.0f} ms: {parts}")
    return rows


def best(run: Callable[[], object], repeats: int) -> float:
    """Least seconds of several runs, after one that is not counted."""
    run()
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        spent.append(time.perf_counter() - began)
    return min(spent)


def _threads(device: str) -> list[int]:
    """Numbers of threads to compare."""
    return sorted({1, min(16, len(os.sched_getaffinity(0)))}) if device == "cpu" else [1]


def _by_threads(values: list[float], form: str, fewer: bool) -> str:
    """One thread's value, and that of many with its advantage."""
    text = form.format(values[0])
    if len(values) > 1:
        gain = values[0] / values[1] if fewer else values[1] / values[0]
        text += f", many {form.format(values[1])} ({gain:.2f} x)"
    return text
