"""Align the twin with one exposure of a world that is not the twin, and see how far off it was before and after."""

import numpy as np
import torch

from samrl.model.scene import Twin
from samrl.real2sim.tracker import Tracker
from samrl.sim2real.control_loop import make_model, native_camera
from samrl.tasks import registry as tasks
from samrl.worlds import registry as worlds
from samrl.worlds import settings

torch.set_num_threads(1)
task = tasks.make("peg-insertion")
name, _ = worlds.default()
world = worlds.make(name, task, settings.load("nominal"))
observation = world.reset(seed=21)

model = make_model(task)
twin = Twin(model.params, model.state(torch.as_tensor(observation.arm.q)))  # nominal block and grasp
tracker = Tracker(model, native_camera(task, observation.X_WC), known=task.known())
aligned, report, _, seconds = tracker.observe(world, twin, observation.X_WC)

truth = world.judge().poses()  # for this print alone; nothing above has seen it
for body, X in model.poses(aligned).items():
    before, after = (np.linalg.norm(p[:3, 3].numpy() - truth[body][:3, 3]) * 1e3 for p in (model.poses(twin)[body], X))
    print(f"{body}: {before:.1f} mm off before, {after:.1f} mm after")
    assert after < 5 and after <= before
print(f"{report.message} It took {seconds['update']:.2f} s.")
world.close()
