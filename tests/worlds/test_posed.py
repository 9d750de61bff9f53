"""A scene that stands still, looked at."""

from pathlib import Path

import numpy as np
import pytest
import torch

from samrl.core.camera import Camera, viewpoint
from samrl.core.errors import SceneError, UnknownNameError
from samrl.worlds import settings
from samrl.worlds.posed import PosedWorld

CHEST = (Path(__file__).parents[2] / "examples" / "articulated" / "chest.xml").read_text()


def look(seed: int, q: float):
    world = PosedWorld(CHEST, settings.load("nominal"), seed, np.array([0.0, 0.0, 0.18]))
    world.put({"lid_hinge": q})
    numbers = (torch.tensor(x).double() for x in (0.3, 0.6, 0.9))
    camera = Camera.from_fov(640, 360, 1.2, viewpoint(torch.tensor([0.0, 0.0, 0.18]).double(), *numbers))
    image, poses = world.look(camera, ("chest", "lid")), world.poses()
    world.close()
    return image, poses


def test_depth_masks_and_truth_agree() -> None:
    image, poses = look(3, 1.2)
    assert np.allclose(poses["lid"][:3, :3] @ [1, 0, 0], [np.cos(1.2), 0, np.sin(1.2)], atol=1e-6)
    only = (image.masks["lid"] > 0) & image.valid
    rows, columns = np.nonzero(only)
    uv = torch.tensor(np.stack([columns, rows], -1) + 0.5)
    p_B = image.camera.unproject(uv, torch.tensor(image.depth[only]).double()).numpy() @ poses["lid"][:3, :3]
    p_B -= poses["lid"][:3, 3] @ poses["lid"][:3, :3]
    assert len(p_B) > 500 and np.median(abs(abs(p_B[:, 2]) - 0.008)) < 0.004  # on the plate, but for the sensor's noise
    assert (image.masks["chest"] >= image.masks["lid"]).all() and image.masks["chest"].sum() > image.masks["lid"].sum()


def test_same_seed_same_image() -> None:
    a, b, c = (look(seed, 0.5)[0] for seed in (1, 1, 2))
    assert np.array_equal(a.color, b.color) and np.array_equal(a.depth, b.depth)
    assert not np.array_equal(a.depth, c.depth)


def test_names_and_shapes_are_checked() -> None:
    world = PosedWorld(CHEST, settings.load("nominal"), 0, np.zeros(3))
    with pytest.raises(UnknownNameError, match="lid_hinge"):
        world.put({"lid_hing": 0.1})
    world.close()
    with pytest.raises(SceneError, match="ellipsoid"):
        text = '<mujoco><worldbody><geom type="ellipsoid" size="1 1 1"/></worldbody></mujoco>'
        PosedWorld(text, settings.load("nominal"), 0, np.zeros(3))
    with pytest.raises(SceneError, match="does not compile"):
        PosedWorld("<mujoco><nonsense/></mujoco>", settings.load("nominal"), 0, np.zeros(3))


def test_bodies_without_names_stay_apart() -> None:
    two = """<mujoco><worldbody><body pos="-1 0 0"><geom type="sphere" size=".1"/></body>
      <body pos="1 0 0"><geom type="sphere" size=".1"/></body></worldbody></mujoco>"""
    world = PosedWorld(two, settings.load("nominal"), 0, np.zeros(3))
    poses = world.poses()
    world.close()
    assert sorted(X[0, 3] for X in poses.values()) == [-1.0, 0.0, 1.0]
