"""Find the joint of a chest's lid from four looks, by a model that has no joint there; the world is not the twin."""

import math
from pathlib import Path

import mujoco
import numpy as np
import torch

from samrl.core.camera import Camera, viewpoint
from samrl.real2sim.articulation.fit import fit_articulation
from samrl.real2sim.articulation.scene_file import write_joint
from samrl.worlds import settings
from samrl.worlds.posed import PosedWorld

torch.set_num_threads(1)
true = (Path(__file__).parent / "articulated" / "chest.xml").read_text()
focus, angles = torch.tensor([0.0, 0.0, 0.2]).double(), (0.2, 0.6, 1.1, 1.6)

world, looks = PosedWorld(true, settings.load("nominal"), 7, focus.numpy()), []
for angle, yaw in zip(angles, (-0.5, 0.1, 0.4, -0.2), strict=True):
    world.put({"lid_hinge": angle})
    X_WC = viewpoint(focus, *(torch.tensor(x).double() for x in (yaw, 0.6, 0.9)))
    looks.append(world.look(Camera.from_fov(1280, 720, 1.2, X_WC), ("lid",)))
world.close()

spec = mujoco.MjSpec.from_string(true)
spec.delete(spec.joint("lid_hinge"))
rough = spec.to_xml()  # the lid rests on the chest, and nothing says how it opens
found = fit_articulation(rough, "lid", looks)

print(f"{found.message} It took {found.seconds:.1f} s.")
for angle, state, std in zip(angles, found.state, found.state_std, strict=True):
    print(f"open by {math.degrees(state):.2f} ± {math.degrees(2 * std):.2f} degrees; in truth {math.degrees(angle):.2f}")
    assert abs(state - angle) < 0.01
off = np.linalg.norm(np.cross(found.point_W - [-0.12, 0.0, 0.17], found.axis_W)) * 1e3
tilt = math.degrees(math.acos(min(1.0, -found.axis_W[1])))
print(f"The axis is {tilt:.2f} degrees and {off:.2f} mm from the true one.")
assert found.kind == "hinge" and tilt < 0.5 and off < 2
assert mujoco.MjModel.from_xml_string(write_joint(rough, found)).joint("lid_joint").range[1] > 1.5
