"""The worlds' camera: two renderers agree, the sensor's noise is as set, the stress worlds do what they say."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from samrl.core import lie
from samrl.core.camera import Camera, Roi
from samrl.core.errors import ImageError, SamrlError
from samrl.tasks import registry as tasks
from samrl.tasks.peg_insertion import PegInsertion
from samrl.tasks.spec import pose_of
from samrl.worlds import registry, settings, simulated
from samrl.worlds.picture import Lighting, Picture, belongs, parts_of
from samrl.worlds.segmenter import Prior, segment
from samrl.worlds.sensor import PADDING, SensorNoise, has_reading

pytest.importorskip("pybullet")
from samrl.worlds.tiny_renderer import TinyRenderer

TASK = PegInsertion()
LIGHT = Lighting(np.array([0.3, -0.2, 0.93]) / np.linalg.norm([0.3, -0.2, 0.93]), 0.5, 0.5, 0.05, 0.6, 0.5)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world():
    world = registry.make("pybullet", TASK, settings.load("nominal"))
    yield world
    world.close()


def test_both_renderers_draw_the_same_places(world):
    """Depth and parts of PyBullet's and MuJoCo's renderers agree to the pixel but for a few at outlines."""
    from samrl.worlds.gl_renderer import GlRenderer

    observation = world.reset(2)
    parts = parts_of(TASK.scene)
    poses = {**world._engine.poses(), **simulated.carrier_poses(TASK.scene, world._camera_arm.q)}
    try:
        renderers = [kind(parts, LIGHT, TASK.look_at().numpy()) for kind in (TinyRenderer, GlRenderer)]
    except SamrlError as error:
        pytest.skip(str(error))
    camera = Camera.from_fov(1280, 720, 1.2, torch.as_tensor(observation.X_WC))
    pictures = []
    for renderer in renderers:
        renderer.place(poses)
        pictures.append(renderer.render(camera.K.numpy(), observation.X_WC, 350, 110, 300, 240, 0.03, 8.0))
        renderer.close()
    a, b = pictures
    alike = a.part == b.part
    assert len(np.unique(a.part)) > 1 and alike.mean() > 0.999
    assert np.abs(a.depth - b.depth)[alike].max() < 1e-4
    assert np.abs(a.color - b.color)[alike].mean() < 0.1


def flat(size: int, z: float) -> Picture:
    n = size + 2 * PADDING
    return Picture(np.full((n, n, 3), 0.5, np.float32), np.full((n, n), z), np.zeros((n, n), int))


def test_noise_grows_with_distance_squared():
    sensor = settings.load("nominal").sensor
    noise, spread = SensorNoise(sensor, 0), []
    for z in (0.4, 0.8):
        _, depth, valid = noise.exposure(0).apply(flat(400, z), 0, 0)
        assert valid.all()
        spread.append(float((depth - z).std()))
    assert spread[1] / spread[0] == pytest.approx(4.0, rel=0.05)
    assert spread[0] == pytest.approx(0.16 * np.hypot(sensor.depth_noise, sensor.depth_noise_smooth), rel=0.2)


def test_exposure_and_colour_noise_are_as_set():
    sensor = settings.load("nominal").sensor
    noise = SensorNoise(sensor, 1)
    gains = [float(noise.exposure(i).gain) for i in range(200)]
    assert 0.8 <= min(gains) < 0.82 and 1.18 < max(gains) <= 1.2
    color, _, _ = noise.exposure(5).apply(flat(300, 0.5), 10, 20)
    assert color.std() == pytest.approx(sensor.color_noise, rel=0.05)
    assert color.mean() == pytest.approx(0.5 * gains[5], abs=1e-3)
    again, _, _ = SensorNoise(sensor, 1).exposure(5).apply(flat(300, 0.5), 10, 20)
    assert np.array_equal(color, again)


def test_no_reading_at_edges_on_thin_things_and_out_of_range():
    sensor = settings.load("nominal").sensor
    picture = flat(60, 0.5)
    picture.depth[:, 30:] = 0.6
    picture.part[:, 30:] = 1
    picture.part[:, 10:12] = 2  # two pixels wide, at the same depth
    picture.part[:, 18:21] = 3  # three pixels wide
    valid = has_reading(picture, sensor)
    assert not valid[:, 28:32].any() and valid[:, 33:].all()
    assert not valid[:, 10:12].any() and valid[:, 18:21].all() and valid[:, 13:17].all()
    for z in (0.05, 3.5, np.inf):
        assert not has_reading(flat(20, z), sensor).any()


def test_the_hand_eye_error_has_the_size_that_is_set():
    """The same scene, the same reported camera: the picture is that of a camera moved by 5 mm and 1°."""
    nominal, stress = (settings.load(name) for name in ("nominal", "stress-calibration"))
    X = simulated.hand_eye_error(stress.hand_eye, np.random.default_rng(0))
    d = lie.local(torch.eye(4, dtype=torch.float64), X)
    assert float(d[:3].norm()) == pytest.approx(0.005) and float(d[3:].norm().rad2deg()) == pytest.approx(1.0)
    pictures = []
    for setting in (nominal, stress):
        world = registry.make("pybullet", TASK, setting)
        observation = world.reset(0)
        pictures.append(world.look(observation.X_WC, [Roi(560, 280, 160)])[0])
        world.close()
    a, b = pictures
    assert torch.equal(a.camera.X_WC, b.camera.X_WC)
    assert not np.array_equal(a.masks["block"], b.masks["block"])


def test_stress_dynamics_is_late_and_sags():
    world = registry.make("pybullet", TASK, settings.load("stress-dynamics"))
    world.reset(0)
    action = np.array([0.0, 0.005, 0.0, 0.0, 0.0, 0.0])
    assert np.array_equal(world.act(action).action, np.zeros(6))
    assert np.allclose(world.act(np.zeros(6)).action, action)
    for _ in range(5):
        arm = world.act(np.zeros(6)).observation.arm
    sag = arm.X_WE_command[2, 3] - float(world._chain.tool(torch.as_tensor(arm.q))[2, 3])
    assert 0.001 < sag < 0.008
    world.close()


def test_stress_cover_shows_a_plate_and_stress_tight_has_no_chamfer():
    cover = settings.load("stress-cover").task_for(TASK)
    assert "cover" in [b.name for b in cover.draw(0).scene.bodies]
    assert "cover" not in [b.name for b in cover.scene.bodies]
    tight = settings.load("stress-tight").task_for(TASK)
    assert tight.scene.body("block").solids[0].size[3:] == (0.00825, 0.03, 0.0)
    world = registry.make("mujoco", TASK, settings.load("stress-cover"))
    world.look(world.reset(0).X_WC, [Roi(500, 200, 64)])
    world.close()


def test_the_settings_are_frozen():
    assert settings.names() == ["nominal", "stress-calibration", "stress-dynamics", "stress-cover", "stress-tight"]
    text = (settings._FILE).read_bytes()
    assert settings.settings_hash() == hashlib.sha256(text).hexdigest()
    with pytest.raises(AttributeError):
        settings.load("nominal").task = "cover"  # type: ignore[misc]
    assert replace(settings.load("stress-cover"), name="nominal", task="nominal") == settings.load("nominal")


def expected(world, task, picture, rng) -> tuple[dict[str, Prior], np.ndarray]:
    """What a twin would expect: the block off by up to 5 cm and 30°, the peg as nominally held, all in nominal shape; and the
    depth of everything else."""
    poses = dict(world._engine.poses())
    d = rng.standard_normal((2, 3))
    d *= np.array([[0.05], [np.pi / 6]]) * rng.uniform(size=(2, 1)) / np.linalg.norm(d, axis=1, keepdims=True)
    poses["block"] = lie.retract(torch.as_tensor(poses["block"]), torch.as_tensor(d.ravel())).numpy()
    peg = task.scene.body("peg")
    poses["peg"] = poses["panda_hand"] @ pose_of(peg.p, peg.quat).numpy()

    def render(*without: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        names = [b.name for b in task.scene.bodies if b.name in poses and b.name not in without]
        renderer = TinyRenderer(parts_of(task.scene, names), LIGHT, task.look_at().numpy())
        renderer.place({n: X for n, X in poses.items() if n in names})
        c = picture.camera
        seen = renderer.render(c.K.numpy(), c.X_WC.numpy(), 0, 0, c.width, c.height, 0.03, 8.0)
        renderer.close()
        masks = {n: belongs(renderer.parts, (n,))[seen.part].astype(float) for n in task.scene.updatable if n in names}
        return np.where(np.isfinite(seen.depth), seen.depth, 0), masks

    depth, masks = render()
    held, alone = render("block")
    found = {"block": Prior(masks["block"], depth, 0.08, standing=True), "peg": Prior(alone["peg"], held, 0.008)}
    return found, render("block", "peg")[0]


def overlap(world, task, seeds) -> dict[str, list[float]]:
    """Intersection over union of segmented and true masks, of bodies seen on 200 pixels or more."""
    out: dict[str, list[float]] = {name: [] for name in task.scene.updatable}
    for seed in seeds:
        observation = world.reset(seed)
        poses = world.judge().poses()
        camera = Camera.from_fov(1280, 720, task.scene.camera.fov_x, torch.as_tensor(observation.X_WC))
        middle = torch.as_tensor(np.stack([poses["block"][:3, 3], poses["peg"][:3, 3]]))
        u, v = camera.project(middle)[:, :2].mean(0).tolist()
        picture = world.look(observation.X_WC, [Roi.around(u, v, 400)])[0]
        found = segment(picture, *expected(world, task, picture, np.random.default_rng(seed)))
        for name, values in out.items():
            a, b = found.masks[name] > 0.5, picture.masks[name] > 0.5
            if b.sum() >= 200:
                values.append(float((a & b).sum() / (a | b).sum()))
    return out


@pytest.mark.parametrize("name", ["peg-insertion-open", "peg-insertion"])
def test_the_segmenter_finds_the_masks(name):
    """With a wall on the block too, which is of another colour, and hides the arm from where the twin expects it."""
    task = tasks.make(name)
    world = registry.make("pybullet", task, settings.load("nominal"))
    found = overlap(world, task, range(24))
    world.close()
    for name, values in found.items():
        assert len(values) > 12
        assert np.median(values) > 0.95, f"{name}: {np.round(values, 2)}"
        assert np.mean(np.array(values) > 0.8) >= 0.9, f"{name}: {np.round(values, 2)}"


def test_the_segmenter_refuses_a_prior_of_another_size(world):
    picture = world.look(world.reset(0).X_WC, [Roi(500, 200, 64)])[0]
    with pytest.raises(ImageError, match="the prior of 'peg'"):
        segment(picture, {"peg": Prior(np.zeros((8, 8)), np.zeros((8, 8)), 0.01)})
    with pytest.raises(ImageError, match="the others is"):
        segment(picture, {}, np.zeros((8, 8)))
    empty = Prior(np.zeros((64, 64)), np.zeros((64, 64)), 0.01)
    assert not segment(picture, {"peg": empty}).masks["peg"].any()
