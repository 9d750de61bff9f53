"""The renderer's gradients as a table, view by view and leaf by leaf, against central differences of an image
with eight times as many pixels each way.

`pytest tests/gradients` takes every view in 128 × 128 pixels, `-m whole` in other sizes too."""

from __future__ import annotations

import pytest
import torch
from pictures import WEIGHTINGS, Picture
from surfaces import Surface, off
from views import VIEWS

from samrl.core import lie
from samrl.core.camera import Camera, look_at
from samrl.model.render import LooseSolid, Renderer, loose_scene, surface_mesh
from samrl.model.render.meshes import template
from samrl.model.scene import BOX, CYLINDER, SPHERE

FINE = 8  # pixels of the reference to one, each way
COSINE, ERROR = 0.999, 0.03
COARSE = {  # a quarter of a pixel thick; a grazing cut; ragged curves where capsules end inside one another
    ("needle 0.55", 64): (0.99, 0.12), ("near plane", 64): (0.999, 0.05), ("arm", 64): (0.999, 0.05),
}  # fmt: skip


def compare(name: str, size: int, device: str) -> None:
    picture, bad = Picture(VIEWS[name](), size, device), []
    cosine, error = COARSE.get((name, size), (COSINE, ERROR))
    for leaf in picture.shapes:
        rows = picture.rows(leaf, picture.difference(leaf, FINE))
        bad += [str(r) for r in rows if r.cosine < cosine or r.error > error]
    assert not bad, "\n".join([f"{name}, {size} x {size}", *bad])


@pytest.mark.parametrize("name", VIEWS)
def test_gradient_equals_difference_of_a_finer_image(name: str, device: str) -> None:
    compare(name, 128, device)


@pytest.mark.whole
@pytest.mark.parametrize("size", (64, 256))
@pytest.mark.parametrize("name", VIEWS)
def test_gradient_in_other_sizes(name: str, size: int, device: str) -> None:
    compare(name, size, device)


def test_moving_limits_the_gradient_to_the_named_bodies():
    picture, grads = Picture(VIEWS["table top"](), 64), []
    view = picture.view
    for moving in (None, ("peg",)):
        renderer = Renderer(picture.scene, moving=moving, background=view.background)
        X = picture.X_WL.clone().requires_grad_()
        image = renderer.render(picture.params, X, picture.camera)
        (image.color * picture.weights[0, :3].permute(1, 2, 0)).sum().backward()
        grads.append(X.grad)
    peg = picture.names.index("peg") + 1
    assert torch.allclose(grads[0][peg], grads[1][peg], rtol=1e-4, atol=1e-4)
    assert not grads[1][torch.arange(len(picture.names) + 1) != peg].any()


SURFACES = [(SPHERE, [0.05]), (BOX, [0.05, 0.03, 0.04]), (CYLINDER, [0.03, 0.05])]


@pytest.mark.parametrize("textured", (False, True), ids=("plain", "textured"))
@pytest.mark.parametrize("kind, size", SURFACES)
def test_free_vertices_equal_difference_of_a_finer_image(kind: int, size: list[float], textured: bool, device: str):
    surface, step = Surface(kind, size, textured=textured, device=device), 1e-4
    some = torch.randperm(len(surface.vertices), generator=torch.Generator().manual_seed(2))[:8]
    got, want = surface.gradient(surface.vertices)[:, some], []
    with torch.no_grad():
        for i in some:
            for axis in range(3):
                d = torch.zeros_like(surface.vertices)
                d[i, axis] = step
                ends = [surface.losses(FINE, surface.vertices + s * d, surface.colors) for s in (1, -1)]
                want.append((ends[0] - ends[1]) / (2 * step))
    want = torch.stack(want, -1).view(got.shape)
    by_colour, by_mask = slice(0, WEIGHTINGS), slice(WEIGHTINGS, None)
    assert off(got[by_colour], want[by_colour]) < ERROR and off(got[by_mask], want[by_mask]) < ERROR


def test_a_colour_that_changes_along_narrow_faces_keeps_its_perspective(device: str):
    """A long cylinder whose colour is linear in space: at its outline faces are narrow, and their far ends smaller."""
    surface = Surface(*SURFACES[2], device=device)
    surface.mesh = surface_mesh(template(CYLINDER).faces)
    slopes = torch.tensor([[5.0, 4.0, 2.0], [4.0, 3.0, 1.0], [4.0, 3.0, 1.0]])
    surface.colors = 0.5 + surface.vertices @ slopes
    grads = []
    for finer in (1, FINE):
        x = surface.vertices.clone().requires_grad_()
        rows = surface.losses(finer, x, surface.colors)[:WEIGHTINGS]
        grads.append(torch.stack([torch.autograd.grad(y, x, retain_graph=True)[0] for y in rows]).double())
    assert off(*grads) < 0.01


def test_colours_of_a_free_surface_equal_difference(device: str):
    surface, got = Surface(*SURFACES[2], device=device), []
    colors = surface.colors.clone().requires_grad_()
    loss = surface.losses(1, surface.vertices, colors)[0]
    got = torch.autograd.grad(loss, colors)[0].flatten()
    with torch.no_grad():
        moved = [surface.colors + 0.1 * d.view_as(colors) for d in torch.eye(colors.numel())]
        want = torch.stack([(surface.losses(1, surface.vertices, c)[0] - loss) / 0.1 for c in moved])
    assert off(got.double(), want) < 1e-3


@pytest.mark.parametrize("kind, size", SURFACES)
def test_texels_of_a_texture_equal_difference_of_a_finer_image(kind: int, size: list[float], device: str):
    surface = Surface(kind, size, textured=True, device=device)
    texture = surface.texture.clone().requires_grad_()
    rows = surface.losses(1, surface.vertices, surface.colors, texture)[:WEIGHTINGS]
    got = torch.stack([torch.autograd.grad(y, texture, retain_graph=True)[0] for y in rows]).double()
    with torch.no_grad():  # the image is linear in its texels
        none = surface.losses(FINE, surface.vertices, surface.colors, 0 * texture)
        each = torch.eye(texture.numel()).view(-1, *texture.shape)
        want = torch.stack([surface.losses(FINE, surface.vertices, surface.colors, x) - none for x in each], -1)
    assert off(got, want[:WEIGHTINGS].view(got.shape)) < ERROR


@pytest.mark.parametrize("kind, size", SURFACES)
def test_a_mesh_of_separate_faces_has_the_gradient_of_a_welded_one(kind: int, size: list[float], device: str):
    """By a common motion of all vertices: edges that lie on one another count once."""
    welded, split = Surface(kind, size, device=device), Surface(kind, size, split=True, device=device)
    assert off(split.gradient(split.vertices).sum(1), welded.gradient(welded.vertices).sum(1)) < ERROR


def test_depth_gradient_inside_a_surface():
    """A plate seen head on: each pixel's depth follows its motion along the optical axis one to one."""
    plate, params = loose_scene({"plate": [LooseSolid(BOX, (0.2, 0.2, 0.01))]})
    X = torch.eye(4).repeat(2, 1, 1)
    camera = Camera.from_fov(16, 16, 0.4, look_at(torch.tensor([0.0, 1e-4, 0.5]), torch.zeros(3)))
    d = torch.zeros(6, requires_grad=True)
    image = Renderer(plate).render(params, torch.stack([X[0], lie.retract(X[1], d)]), camera)
    image.depth.mean().backward()
    assert torch.allclose(d.grad[2], torch.tensor(-1.0), atol=1e-3)
