"""What a run has learned so far, read back from its folder, and put to work: networks, worlds, and the variants that are
compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from samrl.core import runs
from samrl.core.errors import RunFolderError, SamrlError
from samrl.core.runs import LEARN, REAL2SIM, SIM2REAL, RunFolder, read_json
from samrl.core.types import RGBD
from samrl.learn.actor import Actor, Eye
from samrl.learn.expert import Expert
from samrl.learn.q_function import QFunction
from samrl.learn.rehearsal import Shell
from samrl.learn.sensing import Sensing
from samrl.learn.viewpoint import Viewpoint, ViewSettings
from samrl.plans import TWIN, Plan, read_plan
from samrl.real2sim.tracker import Expectation, Segment
from samrl.sim2real.agent import Agent, ByActor, ByExpert, ChosenView, FromView
from samrl.sim2real.control_loop import Residual, make_model
from samrl.sim2real.evaluate import Bench, JudgedWorld
from samrl.sim2real.twin_world import TwinWorld
from samrl.tasks import registry as tasks
from samrl.tasks.task import Task
from samrl.worlds import registry as worlds
from samrl.worlds import segmenter
from samrl.worlds import settings as world_settings
from samrl.worlds.camera_arm import CameraArm
from samrl.worlds.sensor import SensorNoise

EXPERT, SENSING, ACTOR, Q = (f"{name}.safetensors" for name in ("expert", "sensing", "actor", "q"))
STUDY, RESIDUAL = "study.json", "residual.pt"
FIXED = {"fixed-trained": "fixed_trained.safetensors", "fixed-equal": "fixed_equal.safetensors"}  # actors by variant
WITHOUT_RESIDUAL = ("no-residual", "expert", "expert-views", "black", "other")  # of all others one thing is taken away


@dataclass
class Brain:
    """Everything that stage 2 makes; what is not on disk yet is as it begins."""

    expert: Expert
    sensing: Sensing
    eye: Eye
    actor: Actor
    q: QFunction
    shell: Shell

    def viewpoint(self, settings: ViewSettings | None = None) -> Viewpoint:
        return Viewpoint(self.q, self.actor, self.eye, self.shell, settings)


def untrained(plan: Plan) -> Brain:
    """Networks with the weights that they begin with, drawn from the plan's seed."""
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    task = tasks.make(plan.task)
    model = make_model(task)
    expert = Expert(model, task, plan.seed_of(0))
    draw = lambda i: torch.Generator().manual_seed(plan.seed_of(i))  # noqa: E731
    units = len(model.units)
    actor = Actor(expert.policy, draw(3), task.crops)
    return Brain(expert, Sensing(units, draw(4)), Eye(model, task), actor, QFunction(units, draw(5)), Shell.of(task))


def brain_of(folder: RunFolder) -> Brain:
    """What the run has learned so far, not to be trained any further."""
    brain = untrained(read_plan(folder))
    parts: dict[str, nn.Module] = {EXPERT: brain.expert.policy, SENSING: brain.sensing, ACTOR: brain.actor, Q: brain.q}
    for name, net in parts.items():
        if (path := folder.path / LEARN / name).exists() or folder.is_done(LEARN):
            load(net, path)
        net.eval()
    for name in (EXPERT, SENSING):
        parts[name].requires_grad_(False)
    return brain


def save(net: nn.Module, path: Path) -> None:
    runs.write_atomic(path, safetensors.save({k: v.contiguous() for k, v in net.state_dict().items()}))


def load(net: nn.Module, path: Path) -> None:
    try:
        net.load_state_dict(safetensors.load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as e:
        why = str(e).splitlines()[0]
        raise RunFolderError(f"{path} cannot be read ({why}); delete its folder, and --resume trains it again.") from e


# Variants


def agent_of(brain: Brain, folder: RunFolder, variant: str) -> Agent:
    """Who decides in that variant (plans.VARIANTS)."""
    expert, chosen = brain.expert, partial(ChosenView, expert=brain.expert, eye=brain.eye)
    if variant == "expert":
        return ByExpert(expert)
    if variant in ("no-viewpoint", "black", "other"):
        return ByActor(expert, brain.actor, brain.eye, "" if variant == "no-viewpoint" else variant)
    if variant == "fixed-view" or variant in FIXED:
        actor = fixed_actor(folder, FIXED[variant]) if variant in FIXED else brain.actor
        views = best_views(folder)
        return FromView(expert, actor, brain.eye, brain.shell, views[:1] if variant in FIXED else views)
    if variant == "random-direction":
        return chosen(brain.viewpoint(ViewSettings(random=True)))
    if variant == "single-start":
        return chosen(brain.viewpoint(ViewSettings(candidates=1, refined=1, steps=12)))
    return chosen(brain.viewpoint(), blind=variant == "random-view", by_expert=variant == "expert-views")


def best_views(folder: RunFolder) -> Tensor:
    """The nine fixed views (9, 3), best first."""
    return torch.tensor([v["view"] for v in read_json(folder.path / LEARN / STUDY)["nine"]])


def fixed_actor(folder: RunFolder, name: str) -> Actor:
    """The actor that was trained for the best fixed view, from the file of that name."""
    actor = untrained(read_plan(folder)).actor
    load(actor, folder.path / LEARN / name)
    return actor.eval()


def bench_of(folder: RunFolder, world: str, settings: str, variant: str) -> Bench:
    """That variant in a world of that name. The twin knows the nominal task; what the settings change is the world's."""
    plan = read_plan(folder)
    brain = brain_of(folder)
    task, chosen = brain.expert.task, world_settings.load(settings)
    made = twin_world(task, chosen) if world == TWIN else cast(JudgedWorld, worlds.make(world, task, chosen))
    if "segmenter" in (variant, plan.masks) and any(u.bends for u in brain.expert.model.units):
        raise SamrlError(f"the segmenter finds rigid bodies alone, and {task.name} has what bends; use the world's masks.")
    dumps = folder.path / (SIM2REAL if folder.is_done(LEARN) else REAL2SIM)
    return Bench(
        made, brain.expert.model, chosen.task_for(task), agent_of(brain, folder, variant), (world, settings, variant), dumps,
        segment=SEGMENT["segmenter" if variant == "segmenter" else plan.masks], updates=variant != "no-update",
        residual=None if variant in WITHOUT_RESIDUAL else _residual(folder, brain, variant),
    )  # fmt: skip


def _residual(folder: RunFolder, brain: Brain, variant: str) -> Residual | None:
    """The residual that the run has learned, if it has; or as it was at one of plans.MARKS."""
    path = folder.path / SIM2REAL / RESIDUAL
    if variant.startswith("residual-"):
        path = path.with_name(f"{variant}.pt")
        if not path.exists():
            raise RunFolderError(f"{path} is not there: the residual of this run has not practised for so many real steps.")
    if not path.exists():
        return None
    from samrl.sim2real import residual  # takes a second to import, and most runs do without

    return residual.LearnedResidual(residual.read(path), brain.actor)


def twin_world(task: Task, settings: world_settings.Settings) -> TwinWorld:
    """𝓜 as the world. Of the settings its task, sensor and camera arm count; what they do to the acting arm and to the hand-eye
    pose does not."""
    chosen = settings.task_for(task)
    return TwinWorld(chosen, CameraArm(task.scene, settings.camera_arm), partial(SensorNoise, settings.sensor))


def _segment(image: RGBD, expected: dict[str, Expectation], others: np.ndarray) -> RGBD:
    """Masks by colour and depth; a body that the twin holds in the hand does not stand on the table."""
    slack = 0.01  # what the estimate itself may be off by [m]
    priors = {b: segmenter.Prior(e.mask, e.depth, e.reach + slack, standing=e.reach > slack) for b, e in expected.items()}
    return segmenter.segment(image, priors, others)


SEGMENT: dict[str, Segment | None] = {"world": None, "segmenter": _segment}
