"""What the actor reads in its crops: places as distributions over cells, and back into the camera's axes."""

from __future__ import annotations

import torch

from samrl.core import lie
from samrl.core.camera import Camera, look_at
from samrl.learn.actor import Sight, about, gather
from samrl.learn.trunk import CELLS, PER_CROP, SIZE, Glimpse, Trunk, expected

WIDTHS = (0.30, 0.03)  # of crops [m]


def test_a_place_is_the_mean_of_its_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    uv = (1 - 1 / CELLS) * (2 * torch.rand(50, 2, 2, generator=generator) - 1)
    p = expected(uv)
    cells = Trunk(generator).cells
    assert torch.allclose(p.sum(-1), torch.ones(50, 2)) and float(p[..., -1].max()) == 0
    assert torch.allclose(p[..., :-1] @ cells, uv, atol=1e-5)


def test_what_is_outside_is_in_no_cell() -> None:
    p = expected(torch.tensor([[[1.01, 0.0], [0.0, -3.0]]]))
    assert torch.equal(p[..., -1], torch.ones(1, 2)) and float(p[..., :-1].max()) == 0


def test_depth_is_read_where_something_is_near() -> None:
    """A dot before a far wall: without any preference among cells the wall does not count, and the depth is the dot's."""
    trunk = Trunk(torch.Generator().manual_seed(0))
    image = torch.zeros(1, SIZE, SIZE, 5)
    image[..., 3], image[..., 4] = 2.0, 1.0
    image[0, 21:23, 40:42, 3] = 0.1
    glimpse = trunk._found(image, torch.zeros(1, PER_CROP), torch.zeros(1, 2, 6, CELLS * CELLS))
    assert torch.allclose(glimpse.depth, torch.full((1, 2), 0.1))


def test_crops_that_are_right_give_the_landmarks_back() -> None:
    """What is seen where a camera has it, at its depth, is where it is, however far from the image's middle the crops are."""
    X_WC = look_at(torch.tensor([[0.3, -0.4, 0.5]]), torch.tensor([[0.05, 0.0, 0.1]]))
    tip, marks = (
        torch.tensor([[0.0, 0.06, 0.12]]),
        torch.tensor([[[0.004, -0.003, 0.006], [-0.03, 0.02, 0.01], [0, 0, 1], [1, 0, 0]]]),
    )
    tip_C = lie.transform(lie.inverse(X_WC), tip[:, None])[:, 0]
    glimpses = []
    for width in WIDTHS:
        camera = Camera.around(X_WC, tip, SIZE, tip.new_tensor(width))
        p = tip[:, None] + marks[:, :2]
        uv = camera.project(p)[..., :2] / SIZE * 2 - 1
        depth = (lie.transform(lie.inverse(X_WC), p)[..., 2] - tip_C[:, None, 2]) / width
        logits = expected(uv).log().clamp_min(-30)
        glimpses.append(Glimpse(torch.zeros(1, PER_CROP), logits, uv, depth, marks[:, 2:] @ X_WC[:, :3, :3]))
    pose = torch.cat([torch.zeros(1, 9), tip_C], -1)
    images, nothing = torch.zeros(1, 2, SIZE, SIZE, 5), torch.zeros(1, 6)
    sight = Sight(images, pose, X_WC[:, :3, :3], tip, torch.eye(4)[None], nothing, torch.zeros(1, 7), nothing)
    found = gather(sight, glimpses, WIDTHS)[:, -12:]
    places = 0.01 * torch.sinh(found[:, :6].unflatten(-1, (2, 3))) @ X_WC[:, :3, :3].mT
    assert torch.allclose(places, marks[:, :2], atol=1e-5)
    assert torch.allclose(about(places + tip[:, None], tip), places)
