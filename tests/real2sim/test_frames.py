"""Crops, points, and what is refused."""

import math

import numpy as np
import pytest
import torch

from samrl.core.camera import Camera, Roi, look_at
from samrl.core.errors import ImageError
from samrl.core.types import RGBD
from samrl.real2sim.frames import choose_roi, make_crop, points_of, stratified

X_WC = look_at(torch.tensor([0.9, 0.0, 0.4], dtype=torch.float64), torch.tensor([0.5, 0.0, 0.1], dtype=torch.float64))
NATIVE = Camera.from_fov(1280, 720, math.radians(69), X_WC)


def image(roi: Roi) -> RGBD:
    side = roi.side
    mask = np.zeros((side, side), np.float32)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 1
    depth = np.full((side, side), 0.5, np.float32)
    color = np.full((side, side, 3), 0.4, np.float32)
    return RGBD(color, depth, depth > 0, {"block": mask}, NATIVE.crop(roi, side))


def test_a_pixel_covers_what_was_asked() -> None:
    roi = choose_roi(NATIVE, torch.tensor([0.5, 0.0, 0.1]), 64, 0.0012)
    z = float(NATIVE.project(torch.tensor([[0.5, 0.0, 0.1]], dtype=torch.float64))[0, 2])
    pixel = roi.side / 64 * z / float(NATIVE.K[0])
    assert roi.side % 64 == 0 and 0.0008 < pixel < 0.0016
    wide = choose_roi(NATIVE, torch.tensor([0.5, 0.0, 0.1]), 64, 0.0012, reach=0.3)
    assert wide.side * z / float(NATIVE.K[0]) >= 0.3


def test_points_lie_where_the_depth_says() -> None:
    crop = make_crop(image(Roi.around(640, 360, 128)), ("block",), 64, NATIVE)
    p = points_of(crop.depth["block"], crop.camera, 100)
    assert len(p) == 100
    assert torch.allclose(NATIVE.project(p.double())[:, 2], torch.full((100,), 0.5, dtype=torch.float64), atol=1e-5)


def test_beyond_the_sensor_is_outside() -> None:
    crop = make_crop(image(Roi(-64, 0, 128)), ("block",), 64, NATIVE)
    assert not crop.inside[:, :31].any() and crop.inside[:, 33:].all()


def test_stratified_is_fixed_and_even() -> None:
    mask = torch.ones(20, 20, dtype=torch.bool)
    assert torch.equal(stratified(mask, 50), stratified(mask, 50))
    assert len(stratified(mask, 50)) == 50 and len(stratified(mask, 1000)) == 400


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"color": np.full((128, 128, 3), np.nan, np.float32)}, "non-finite"),
        ({"color": np.zeros((64, 128, 3), np.float32)}, "its camera says"),
        ({"depth": np.zeros((64, 64), np.float32)}, "its camera says"),
        ({"masks": {}}, "no mask for 'block'"),
        ({"masks": {"block": np.zeros((3, 3))}}, "the mask of 'block'"),
    ],
)
def test_bad_images_are_refused_in_a_sentence(change: dict, words: str) -> None:
    good = image(Roi.around(640, 360, 128))
    bad = RGBD(**{**good.__dict__, **change})
    with pytest.raises(ImageError, match=words):
        make_crop(bad, ("block",), 64, NATIVE)
