"""The update on images of a world that is not the twin."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from samrl.core import lie
from samrl.core.errors import ImageError
from samrl.model.placement import body_pose, set_body_pose, unit_poses
from samrl.model.scene import Twin
from samrl.real2sim.album import Album
from samrl.real2sim.frames import choose_roi
from samrl.real2sim.problem import Problem
from samrl.real2sim.tracker import Tracker
from samrl.real2sim.update import update
from samrl.sim2real.control_loop import make_model, native_camera
from samrl.tasks.peg_insertion import PegInsertion
from samrl.worlds import registry, settings

TASK = PegInsertion()
NAME, _ = registry.default()


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return make_model(TASK)


@pytest.fixture(scope="module")
def world():
    world = registry.make(NAME, TASK, settings.load("nominal"))
    yield world
    world.close()


def distance(twin: Twin, model, truth: dict, body: str) -> float:
    return float((model.poses(twin)[body][:3, 3].double() - torch.as_tensor(truth[body][:3, 3])).norm())


def angle(twin: Twin, model, truth: dict) -> float:
    """Of the block [deg], turns by 180° about its hole being the same."""
    R = model.poses(twin)["block"][:3, :3].double().T @ torch.as_tensor(truth["block"][:3, :3])
    half = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
    return math.degrees(min(float(lie.log_so3(S).norm()) for S in (R, half @ R)))


def placed(model, observation, X: torch.Tensor) -> Twin:
    """The twin with the block at X (4, 4), the arm as observed."""
    twin = Twin(model.params, model.state(torch.as_tensor(observation.arm.q)))
    return set_body_pose(model.scene, twin, "block", X.to(model.dtype))


@pytest.mark.parametrize("seed", [2, 14, 21])
def test_block_from_five_centimetres(model, world, seed: int) -> None:
    rng = np.random.default_rng(seed)
    observation, truth = world.reset(seed), world.judge().poses()
    off = torch.as_tensor([*rng.uniform(-0.05, 0.05, 3), 0, 0, rng.uniform(-0.5, 0.5)])
    X = lie.retract(torch.as_tensor(truth["block"]), off).to(model.dtype)
    twin = placed(model, observation, X)
    tracker = Tracker(model, native_camera(TASK, observation.X_WC), known={"peg": (0.003, 0.035)})
    twin, report, _, _ = tracker.observe(world, twin, observation.X_WC)
    assert distance(twin, model, truth, "block") < 0.003 and angle(twin, model, truth) < 3
    assert report.loss_after <= report.loss_before
    assert 1e-5 < tracker.uncertainty()["block"] < 0.02


def test_out_of_view_keeps_the_estimate_and_says_so(model, world) -> None:
    observation = world.reset(2)
    twin = Twin(model.params, model.state(torch.as_tensor(observation.arm.q)))
    tracker = Tracker(model, native_camera(TASK, observation.X_WC), known=TASK.known())
    images = world.look(observation.X_WC, tracker.rois(twin))
    for image in images:
        for mask in image.masks.values():
            mask[:] = 0
    tracker.nominal = {}
    tracker.known = {}
    new, report = tracker.update(twin, images)
    assert set(report.lost) == {"block", "peg"} and "out of view" in report.message
    for body, X in model.poses(twin).items():
        assert torch.equal(X, model.poses(new)[body])


def test_nan_in_an_image_is_a_sentence(model, world) -> None:
    observation = world.reset(2)
    twin = Twin(model.params, model.state(torch.as_tensor(observation.arm.q)))
    tracker = Tracker(model, native_camera(TASK, observation.X_WC))
    images = world.look(observation.X_WC, tracker.rois(twin))
    images[0].depth[3, 4] = np.nan
    with pytest.raises(ImageError, match="non-finite"):
        tracker.update(twin, images)


def test_a_block_on_its_side_is_looked_for_again(model, world) -> None:
    """From a wrong estimate that the descent alone does not leave, the second search finds the block."""
    observation, truth = world.reset(2), world.judge().poses()
    X = torch.as_tensor(truth["block"])
    rolled = lie.retract(X, torch.tensor([0.0, 0.0, 0.0, 0.0, 1.4, 0.0], dtype=X.dtype)).to(model.dtype)
    believed, wrong = (placed(model, observation, Y) for Y in (X, rolled))
    tracker = Tracker(model, native_camera(TASK, observation.X_WC))
    tracker.nominal = {u.name: unit_poses(model.scene, believed, u) for u in model.units}
    crops = tracker.crops(world.look(observation.X_WC, tracker.rois(believed)))
    alone, _ = update(model, wrong, crops, replace(tracker.first, doubt=math.inf), tracker.priors(wrong))
    found, report = update(model, wrong, crops, tracker.first, tracker.priors(wrong))
    assert "block" in report.doubted and "block" in report.replaced
    assert angle(alone, model, truth) > 20 and angle(found, model, truth) < 3


def test_what_is_still_to_be_located_hides_nothing(model, world):
    """A block that is believed to stand between camera and peg; the arm and the peg are expected where they are all the same."""
    observation = world.reset(1)
    camera = native_camera(TASK, observation.X_WC)
    twin = Twin(model.params, model.state(torch.as_tensor(observation.arm.q)))
    peg, eye = model.poses(twin)["peg"][:3, 3], torch.as_tensor(observation.X_WC[:3, 3]).float()
    hiding = set_body_pose(model.scene, twin, "block", lie.pose(torch.eye(3), 0.7 * peg + 0.3 * eye))
    image = world.look(observation.X_WC, [choose_roi(camera, peg.double(), 96, 0.0012)])[0]
    tracker = Tracker(model, camera, known=TASK.known())
    plain, others = tracker.expected(twin, image)
    hidden, rest = tracker.expected(hiding, image)
    assert tracker.far == ("block",) and plain["peg"].mask.any() and others.any()
    assert np.array_equal(hidden["peg"].mask, plain["peg"].mask) and np.array_equal(rest, others)
    assert not np.array_equal(hidden["block"].mask, plain["block"].mask)
    tracker.far = ()
    assert hidden["peg"].mask.sum() > 2 * tracker.expected(hiding, image)[0]["peg"].mask.sum()


def test_a_body_is_not_put_where_it_cannot_be(model, world) -> None:
    """A block that is said to be within 2 cm and is seen 6 cm away: the images must be misread."""
    observation, truth = world.reset(2), world.judge().poses()
    X = lie.retract(torch.as_tensor(truth["block"]), torch.tensor([0.06, 0, 0, 0, 0, 0], dtype=torch.float64)).to(model.dtype)
    twin = placed(model, observation, X)
    tracker = Tracker(model, native_camera(TASK, observation.X_WC), known={"block": (0.02, 0.5), "peg": (0.006, 0.05)})
    twin, report, _, _ = tracker.observe(world, twin, observation.X_WC)
    assert report.lost == ("block",) and tracker.far == ("block",) and tracker.fresh
    assert torch.equal(body_pose(model.scene, twin, "block"), X)
    assert distance(twin, model, truth, "peg") < 0.003


def test_another_view_tells_where_a_body_is_not(model, world) -> None:
    """A block 3 cm off looks wrong in the album's image, of which a problem of another image knows nothing; the look that is
    being taken is not in it yet."""
    observation, truth = world.reset(2), world.judge().poses()
    twin = placed(model, observation, torch.as_tensor(truth["block"]))
    tracker = Tracker(model, native_camera(TASK, observation.X_WC), known=TASK.known())
    album = Album(model, tracker.first)
    crops = tracker.crops(world.look(observation.X_WC, tracker.rois(twin)))
    album.add(twin, crops, moved=False)
    problem = Problem(model, twin, crops, tracker.first)
    off = problem.based(problem.X0[None], lie.retract(problem.bases(problem.X0[None]), torch.tensor([0.03, 0, 0, 0, 0, 0])))
    candidates = torch.cat([problem.X0[None], off])
    assert not bool(album.losses(problem, candidates).any())
    album.add(twin, crops, moved=True)
    right, wrong = album.losses(problem, candidates)[:, problem.names.index("block")].tolist()
    assert right < tracker.first.doubt and wrong > 5 * right
