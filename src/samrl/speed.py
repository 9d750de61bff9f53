"""`samrl bench`: how fast the twin and the control loop are on this machine. Everything is simulated and untrained."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import torch

from samrl import benches, plans
from samrl.core.camera import Camera, look_at
from samrl.core.errors import SamrlError
from samrl.core.progress import track
from samrl.learn.expert import random_start
from samrl.model.physics import Physics
from samrl.model.render import Renderer
from samrl.sim2real.control_loop import make_model, run_episode
from samrl.tasks import registry as tasks
from samrl.worlds import registry as worlds

TASK, SIZE, SUBSTEPS = "peg-insertion", 128, 20
STAGES = {"view": "choice of the view", "update": "update", "policy": "action", "step": "prediction"}


def machine(device: str = "cpu") -> str:
    """A sentence about where this runs. SamrlError if there is no such device."""
    import warp as wp

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise SamrlError(f"--device {device}: PyTorch finds no such device here; cpu would do.")
    where = f"{len(os.sched_getaffinity(0))} cores" if device == "cpu" else torch.cuda.get_device_name(device)
    return f"{where}, PyTorch {torch.__version__}, Warp {wp.__version__}; 'many' means {_threads()[-1]} threads"


def render(device: str = "cpu", repeats: int = 20) -> list[str]:
    """Rows of milliseconds for a view of the task's scene and its gradient by all poses and the camera."""
    model = make_model(tasks.make(TASK))
    twin, _ = random_start(model, tasks.make(TASK), 1, torch.Generator().manual_seed(0))
    X_WL, middle = model.link_poses(twin)[0].to(device), model.poses(twin, ("block",))["block"][0, :3, 3]
    params = model.params.to(device)
    rows = [f"image and gradient, {SIZE} x {SIZE} pixels, {model.renderer.triangles} triangles; ms a view, least of {repeats}"]
    for count in (1, 32):
        eye = middle + torch.tensor([0.35, 0.2, 0.3]) + 0.03 * torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
        camera = Camera.from_fov(SIZE, SIZE, 0.5, look_at(eye, middle))
        spent = []
        for threads in _threads() if device == "cpu" else [1]:
            renderer = Renderer(model.scene, masks=model.updatable, threads=threads, device=device)

            def step(renderer: Renderer = renderer, camera: Camera = camera) -> None:
                X, X_WC = X_WL.clone().requires_grad_(), camera.X_WC.to(device).requires_grad_()
                image = renderer.render(params, X, Camera(SIZE, SIZE, camera.K.to(device), X_WC))
                parts = [image.color, *image.masks.values()]
                grads = torch.autograd.grad(parts, [X, X_WC], [torch.ones_like(p) for p in parts])
                float(grads[0].sum())  # waits for the device

            spent.append(1e3 * best(step, repeats) / count)
        rows.append(f"{count:4d} views: {_by_threads(spent, '{:.2f} ms', fewer=True)}")
    return rows


def physics(device: str = "cpu", repeats: int = 5) -> list[str]:
    """Rows of steps a second of the task's scene, forward, and forward and back."""
    task = tasks.make(TASK)
    model = make_model(task)
    rows = [f"steps of {1e3 * model.physics.timestep:g} ms a second, arm, peg and block; best of {repeats}"]
    for count in (1, 32, 256):
        twin, command = random_start(model, task, count, torch.Generator().manual_seed(0))
        params, state = twin.params.to(device), twin.state
        state = type(state)(state.q.to(device), state.qd.to(device))
        points = command.q_ref.to(device).expand(20, *command.q_ref.shape).contiguous()
        forth, back = [], []
        for threads in _threads() if device == "cpu" else [1]:
            simulate = Physics(model.scene, timestep=model.physics.timestep, threads=threads, device=device)

            def forward(simulate: Physics = simulate, params=params, state=state, points=points) -> None:  # type: ignore
                with torch.no_grad():
                    float(simulate.rollout(params, state, points, substeps=SUBSTEPS).q.sum())

            def both(simulate: Physics = simulate, params=params, state=state, points=points) -> None:  # type: ignore
                free = points.clone().requires_grad_()
                simulate.rollout(params, state, free, substeps=SUBSTEPS).q.sum().backward()
                float(free.grad.sum())  # type: ignore

            steps = len(points) * SUBSTEPS * count
            forth.append(steps / best(forward, repeats) / 1e3)
            back.append(steps / best(both, repeats) / 1e3)
        show = lambda rates: _by_threads(rates, "{:.0f}k", fewer=False)  # noqa: E731
        rows.append(f"{count:4d} environments: forward {show(forth)}; and back {show(back)}")
    return rows


def loop(steps: int = 24) -> list[str]:
    """Rows of milliseconds a control step, by stage, in an episode of the default world with networks that are untrained."""
    plan = plans.make_plan(TASK)
    brain = benches.untrained(plan)
    for net in (brain.actor, brain.q):
        net.eval()
    task = brain.expert.task
    world = worlds.make(plan.world, task, benches.world_settings.load("nominal"))
    agent = benches.ChosenView(brain.viewpoint(), brain.expert, brain.eye)
    with track("control steps", steps) as advance:
        run_episode(world, brain.expert.model, task, agent, 0, horizon=2)  # loads the kernels
        episode = run_episode(world, brain.expert.model, task, agent, 0, horizon=steps, on_step=lambda *_: advance())
    world.close()
    rows = [f"a control step in {plan.world}, one thread but for kernels, medians of {steps - 2} steps"]
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


def _threads() -> list[int]:
    """Numbers of threads to compare."""
    return sorted({1, min(16, len(os.sched_getaffinity(0)))})


def _by_threads(values: list[float], form: str, fewer: bool) -> str:
    """One thread's value, and that of many with its advantage."""
    text = form.format(values[0])
    if len(values) > 1:
        gain = values[0] / values[1] if fewer else values[1] / values[0]
        text += f", many {form.format(values[1])} ({gain:.2f} x)"
    return text
