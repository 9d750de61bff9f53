"""The renderer's gradients against central differences of a 16 × 16 supersampled render of the same scene.

The loss is a smooth random weighting of the image, so that every pixel and every direction counts.
"""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch

from samrl.core import lie
from samrl.core.camera import Camera, look_at
from samrl.model.render import LooseSolid, Renderer, Settings, SurfaceRenderer, loose_scene, surface_mesh
from samrl.model.render.meshes import template
from samrl.model.scene import BLOCK_WITH_HOLE, BOX, CAPSULE, CYLINDER, PLANE, SPHERE

SIZE, FINE = 64, 16
MASKS = ("block", "peg")
BLOCK_SIZES, PEG_SIZES = [0, 1, 2, 3, 4], [0, 1]
STEPS = {  # of the central differences: about a fifth of a pixel, or a hundredth of a colour
    "block": 5e-4, "peg": 5e-4, "arm": 5e-4, "camera": 5e-4, "K": 0.3, "block_size": 3e-4, "peg_size": 3e-4, "block_p": 5e-4,
    "color": 0.02, "light_direction": 0.02, "ambient": 0.02, "diffuse": 0.02,
}  # fmt: skip


@cache
def scene():
    """Table, a block with a hole that hovers on a riser, a peg above it, an arm of capsules; nothing interpenetrates."""
    return loose_scene(
        {
            "table": [LooseSolid(PLANE, (1.5, 1.5), (0.5, 0.45, 0.4))],
            "block": [
                LooseSolid(BLOCK_WITH_HOLE, (0.045, 0.04, 0.025, 0.009, 0.03, 0.002), (0.25, 0.4, 0.7)),
                LooseSolid(BOX, (0.02, 0.02, 0.02), (0.2, 0.2, 0.2), (0.0, 0.0, -0.045)),
            ],
            "peg": [LooseSolid(CYLINDER, (0.008, 0.03), (0.75, 0.25, 0.2))],
            "arm0": [LooseSolid(CAPSULE, (0.02, 0.04), (0.9, 0.9, 0.88))],
            "arm1": [
                LooseSolid(CAPSULE, (0.015, 0.05), (0.5, 0.6, 0.55)),
                LooseSolid(SPHERE, (0.015,), p=(0.0, 0.0, 0.085)),
            ],
        }
    )


def link_poses() -> torch.Tensor:
    p = torch.tensor([(0, 0, 0), (0, 0, 0), (0, 0, 0.08), (0.015, 0.01, 0.16), (-0.03, 0.04, 0.235), (0.02, -0.10, 0.1)])
    w = torch.tensor([(0, 0, 0), (0, 0, 0), (0, 0, 0.4), (0.2, 0.1, 0), (0.5, -0.6, 0), (0.3, 0.9, 0.1)])
    return lie.pose(lie.exp_so3(w), p)


def viewpoint(seed: int) -> Camera:
    rng = torch.Generator().manual_seed(seed)
    eye = torch.tensor([0.28, -0.20, 0.26]) + 0.06 * torch.randn(3, generator=rng)
    target = torch.tensor([0.0, 0.0, 0.12]) + 0.02 * torch.randn(3, generator=rng)
    return Camera.from_fov(SIZE, SIZE, 0.6, look_at(eye, target))


def smooth_noise(seed: int, channels: int) -> torch.Tensor:
    """(channels, SIZE, SIZE) of unit scale, a few pixels to a blob."""
    coarse = torch.randn(1, channels, 7, 7, generator=torch.Generator().manual_seed(100 + seed))
    return torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")[0]


def offsets() -> dict[str, torch.Tensor]:
    params = scene()[1]
    shapes = dict.fromkeys(("block", "peg", "arm", "camera"), (6,)) | {"K": (4,), "block_size": (5,), "peg_size": (2,)}
    shapes |= {"block_p": (3,), "color": tuple(params.color.shape)} | dict.fromkeys(
        ("light_direction", "ambient", "diffuse"), (3,)
    )
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def losses(renderer: Renderer, x: dict[str, torch.Tensor], camera: Camera, seed: int) -> torch.Tensor:
    """(2): weighted colour and weighted masks, everything moved by the offsets x."""
    params, X = scene()[1], link_poses()
    moved = [lie.retract(X[2], x["block"]), lie.retract(X[3], x["peg"]), lie.retract(X[4], x["arm"])]
    X_WL = torch.stack([*X[:2], *moved, X[5]])
    size, p = params.geom_size.clone(), params.geom_p.clone()
    size[1, BLOCK_SIZES] = size[1, BLOCK_SIZES] + x["block_size"]
    size[3, PEG_SIZES] = size[3, PEG_SIZES] + x["peg_size"]
    p[1] = p[1] + x["block_p"]
    leaves = {n: getattr(params, n) + x[n] for n in ("color", "light_direction", "ambient", "diffuse")}
    camera = dataclasses.replace(camera, K=camera.K + x["K"], X_WC=lie.retract(camera.X_WC, x["camera"]))
    image = renderer.render(params.replace(geom_size=size, geom_p=p, **leaves), X_WL, camera)
    weight = smooth_noise(seed, 3 + len(MASKS)).double()
    color = (image.color.double() * weight[:3].permute(1, 2, 0)).sum()
    masks = sum((image.masks[n].double() * w).sum() for n, w in zip(MASKS, weight[3:], strict=True))
    return torch.stack([color, masks])


def differences(function, x: torch.Tensor, step: float) -> torch.Tensor:
    """(2, *x.shape) central differences of a function of x to (2)."""
    out = torch.zeros(2, x.numel(), dtype=torch.float64)
    with torch.no_grad():
        for i in range(x.numel()):
            d = torch.zeros(x.numel())
            d[i] = step
            out[:, i] = (function(x + d.view_as(x)) - function(x - d.view_as(x))) / (2 * step)
    return out.view(2, *x.shape)


def assert_close(name: str, got: torch.Tensor, want: torch.Tensor, error: float) -> None:
    got, want = got.double().flatten(), want.flatten()
    cosine = float(got @ want / (got.norm() * want.norm()))
    off = float((got - want).norm() / want.norm())
    assert cosine >= 0.99 and off < error, f"{name}: cosine {cosine:.4f}, off by {100 * off:.1f} %"


@cache
def renderers() -> tuple[Renderer, Renderer]:
    options = {"masks": MASKS, "background": (0.1, 0.2, 0.1)}
    return Renderer(scene()[0], **options), Renderer(scene()[0], supersampling=FINE, **options)


@pytest.mark.parametrize("seed", range(3))
def test_scene_gradients_match_a_supersampled_image(seed):
    renderer, fine = renderers()
    camera, zero = viewpoint(seed), offsets()
    x = {name: v.clone().requires_grad_() for name, v in zero.items()}
    color, masks = losses(renderer, x, camera, seed)
    by_color = torch.autograd.grad(color, list(x.values()), retain_graph=True)
    by_masks = torch.autograd.grad(masks, list(x.values()), allow_unused=True)
    for name, g_color, g_masks in zip(x, by_color, by_masks, strict=True):
        want = differences(lambda v, n=name: losses(fine, {**zero, n: v}, camera, seed), zero[name], STEPS[name])
        assert_close(f"{name} by colour", g_color, want[0], 0.15)
        if float(want[1].norm()) > 0:
            assert_close(f"{name} by masks", g_masks, want[1], 0.15)


@pytest.mark.parametrize("seed", range(1, 5))  # not 0, where the block's top is seen edge on
def test_mean_depth_gradients_match_a_supersampled_image(seed):
    """In 1 / depth, which is the mean of the samples'. There is a background above the table's end."""
    by_depth = lambda S: Renderer(scene()[0], supersampling=S, mean_depth=True)  # noqa: E731
    renderer, fine, weight, zero = by_depth(4), by_depth(FINE), smooth_noise(seed, 1)[0].double(), torch.zeros(6)
    camera = viewpoint(seed)

    def loss(r: Renderer, name: str, d: torch.Tensor) -> torch.Tensor:
        X = link_poses()
        moved = [lie.retract(X[i], d) if name == n else X[i] for i, n in ((2, "block"), (3, "peg"), (4, "arm"))]
        seen_from = lie.retract(camera.X_WC, d) if name == "camera" else camera.X_WC
        image = r.render(scene()[1], torch.stack([*X[:2], *moved, X[5]]), dataclasses.replace(camera, X_WC=seen_from))
        return (torch.where(image.valid, 1 / image.depth, 0.0).double() * weight).sum().repeat(2)

    for name in ("block", "peg", "arm", "camera"):
        x = zero.clone().requires_grad_()
        (got,) = torch.autograd.grad(loss(renderer, name, x)[0], x)
        want = differences(lambda v, n=name: loss(fine, n, v), zero, STEPS[name])[0]
        assert_close(f"{name} by depth", got, want, 0.15)


def test_moving_limits_the_gradient_to_the_named_bodies():
    renderer, _ = renderers()
    few = Renderer(scene()[0], masks=MASKS, background=(0.1, 0.2, 0.1), moving=("peg",))
    grads = []
    for r in (renderer, few):
        X = link_poses().requires_grad_()
        image = r.render(scene()[1], X, viewpoint(0))
        (image.color.sum(-1) * smooth_noise(0, 1)[0]).sum().backward()
        grads.append(X.grad)
    assert torch.allclose(grads[0][3], grads[1][3], rtol=1e-4, atol=1e-4)
    assert not grads[1][[0, 1, 2, 4, 5]].any()


@pytest.mark.parametrize("kind, size", [(SPHERE, [0.05]), (BOX, [0.05, 0.03, 0.04]), (CYLINDER, [0.03, 0.05])])
def test_free_vertices_match_a_supersampled_image(kind, size):
    shape = template(kind)
    mesh = surface_mesh(shape.faces, shape.corners)
    vertices = torch.from_numpy(shape.T @ np.array(size + [0.0] * (6 - len(size)))).float()
    colors = torch.rand(len(shape.normals), 3, generator=torch.Generator().manual_seed(1))
    camera = Camera.from_fov(SIZE, SIZE, 0.5, look_at(torch.tensor([0.2, -0.25, 0.2]), torch.zeros(3)))
    weight = smooth_noise(7, 4)

    def loss(surface, v, c):
        image = surface.render(v, c, camera)
        mask = (image.masks["surface"].double() * weight[3]).sum()
        return torch.stack([(image.color.double() * weight[:3].permute(1, 2, 0)).sum(), mask])

    coarse, fine = (SurfaceRenderer(mesh, Settings(s, background=(0.3, 0.1, 0.2)), mask=True) for s in (2, FINE))
    some = torch.randperm(len(vertices), generator=torch.Generator().manual_seed(2))[:12]
    moved = lambda d: vertices.index_add(0, some, d)  # noqa: E731
    d, c = torch.zeros(len(some), 3, requires_grad=True), colors.clone().requires_grad_()
    color, mask = loss(coarse, moved(d), c)
    want = differences(lambda x: loss(fine, moved(x), colors), d.detach(), 3e-4)  # less than the facets' folds
    by_vertex, by_color = torch.autograd.grad(color, [d, c], retain_graph=True)
    assert_close("vertices by colour", by_vertex, want[0], 0.10)
    assert_close("vertices by mask", torch.autograd.grad(mask, d)[0], want[1], 0.10)
    assert_close("colours", by_color, differences(lambda x: loss(coarse, vertices, x), colors, 0.1)[0], 1e-3)


def test_depth_gradient_inside_a_surface():
    """A plate seen head on: each pixel's depth follows its motion along the optical axis one to one."""
    plate, params = loose_scene({"plate": [LooseSolid(BOX, (0.2, 0.2, 0.01))]})
    X = torch.eye(4).repeat(2, 1, 1)
    camera = Camera.from_fov(16, 16, 0.4, look_at(torch.tensor([0.0, 1e-4, 0.5]), torch.zeros(3)))
    d = torch.zeros(6, requires_grad=True)
    image = Renderer(plate).render(params, torch.stack([X[0], lie.retract(X[1], d)]), camera)
    image.depth.mean().backward()
    assert torch.allclose(d.grad[2], torch.tensor(-1.0), atol=1e-3)
