"""What must hold for every image: analytic cases, crops, batches, buffers, determinism, errors."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from samrl.core import lie
from samrl.core.camera import Camera, Roi, look_at
from samrl.core.errors import ImageError, NonFiniteError, SceneError, UnknownNameError
from samrl.model.render import LooseSolid, Renderer, SurfaceRenderer, loose_scene, surface_mesh
from samrl.model.render.meshes import find_edges, template
from samrl.model.scene import BLOCK_WITH_HOLE, BOX, CAPSULE, CYLINDER, DISC, PLANE, SPHERE

SIZES = np.array([0.05, 0.04, 0.03, 0.01, 0.02, 0.003])


def capsule_volume() -> float:
    return 4 / 3 * math.pi * 0.05**3 + math.pi * 0.05**2 * 0.08


def hole_volume() -> float:
    cone = math.pi * 0.003 / 3 * (0.013**2 + 0.013 * 0.01 + 0.01**2)
    return cone + math.pi * 0.01**2 * 0.017


def disc_volume() -> float:
    """Of a disc with rims of 30 mm: a ring of quarter circles around a cylinder (Pappus), above and below."""
    flat, rim, half = 0.02, 0.03, 0.04
    quarter = math.pi * rim**2 / 4
    ring = 2 * math.pi * (flat + 4 * rim / (3 * math.pi)) * quarter
    return 2 * (math.pi * flat**2 * half + ring + math.pi * ((flat + rim) ** 2 - flat**2) * (half - rim))


@pytest.mark.parametrize(
    "kind, volume, error",
    [
        (SPHERE, 4 / 3 * math.pi * 0.05**3, 0.03),
        (CAPSULE, capsule_volume(), 0.03),
        (CYLINDER, math.pi * 0.05**2 * 0.08, 1e-6),
        (DISC, disc_volume(), 0.035),
        (BOX, 8 * 0.05 * 0.04 * 0.03, 1e-6),
        (BLOCK_WITH_HOLE, 8 * 0.05 * 0.04 * 0.03 - hole_volume(), 1e-6),
    ],
)
def test_meshes_are_closed_face_outwards_and_have_the_right_volume(kind, volume, error):
    t = template(kind)
    a, b, c = (t.T @ SIZES)[t.faces].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    assert (find_edges(t.faces, t.corners)[:, 3] >= 0).all()
    assert (np.einsum("fj,fkj->fk", normal, t.normals[t.corners]) > 0.9 * np.linalg.norm(normal, axis=1)[:, None]).all()
    assert abs(np.einsum("fj,fj->", a, np.cross(b, c)) / 6 / volume - 1) < error


def small_scene():
    return loose_scene(
        {
            "table": [LooseSolid(PLANE, (1.0, 1.0), (0.5, 0.45, 0.4))],
            "block": [LooseSolid(BLOCK_WITH_HOLE, (0.045, 0.04, 0.025, 0.009, 0.03, 0.002), (0.25, 0.4, 0.7))],
            "peg": [LooseSolid(CYLINDER, (0.008, 0.03), (0.75, 0.25, 0.2))],
        }
    )


def small_poses() -> torch.Tensor:
    p = torch.tensor([(0, 0, 0), (0, 0, 0), (0, 0, 0.05), (0.015, 0.01, 0.13)])
    w = torch.tensor([(0, 0, 0), (0, 0, 0), (0, 0, 0.4), (0.2, 0.1, 0)])
    return lie.pose(lie.exp_so3(w), p)


def small_camera(size: int = 48, *eye: float) -> Camera:
    return Camera.from_fov(size, size, 0.6, look_at(torch.tensor(eye or (0.28, -0.2, 0.26)), torch.tensor([0.0, 0.0, 0.07])))


def test_a_lit_face_has_the_colour_of_the_lighting_law():
    scene, params = loose_scene({"box": [LooseSolid(BOX, (0.1, 0.1, 0.1), (0.8, 0.5, 0.2))]})
    params = params.replace(
        light_direction=torch.tensor([0.0, 3.0, 4.0]),
        ambient=torch.tensor([0.1, 0.2, 0.3]),
        diffuse=torch.tensor([0.5, 0.6, 0.7]),
    )
    camera = Camera.from_fov(9, 9, 0.3, look_at(torch.tensor([0.0, 1e-3, 0.5]), torch.zeros(3)))
    image = Renderer(scene).render(params, torch.eye(4).repeat(2, 1, 1), camera)
    lit = 0.5 * (0.8 + math.sqrt(0.64 + 0.05**2))
    want = torch.tensor([0.8, 0.5, 0.2]) * (params.ambient + params.diffuse * lit)
    assert torch.allclose(image.color[4, 4], want, atol=1e-5)


def rays(camera: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    """Origin (3) and directions (H, W, 3), of unit depth along the optical axis, of the pixels' centres in the world."""
    v, u = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    uv = torch.stack([u, v], -1).reshape(-1, 2)
    p = camera.unproject(uv, torch.ones(len(uv))) - camera.X_WC[:3, 3]
    return camera.X_WC[:3, 3], p.reshape(camera.height, camera.width, 3)


def test_depth_of_a_plane_that_runs_under_the_camera():
    """The plane's triangles reach behind the camera; pixels below the horizon have their exact depth."""
    scene, params = loose_scene({"table": [LooseSolid(PLANE, (5.0, 5.0))]})
    camera = Camera.from_fov(64, 48, 1.4, look_at(torch.tensor([0.2, 0.1, 0.3]), torch.tensor([1.0, 0.2, 0.1])))
    image = Renderer(scene).render(params, torch.eye(4).repeat(2, 1, 1), camera)
    origin, ray = rays(camera)
    depth = -origin[2] / ray[..., 2]
    inside = (depth > 0) & ((origin[:2] + depth[..., None] * ray[..., :2]).abs() < 4.5).all(-1)
    assert inside.float().mean() > 0.4 and image.valid[inside].all() and not image.valid[ray[..., 2] > 0].any()
    near = inside & (depth < 2)  # far away a pixel spans much depth, and where it is read matters
    assert torch.allclose(image.depth[near], depth[near], rtol=1e-4)


def test_depth_and_coverage_of_a_sphere():
    scene, params = loose_scene({"ball": [LooseSolid(SPHERE, (0.1,))]})
    camera = Camera.from_fov(96, 96, 0.6, look_at(torch.tensor([0.4, -0.3, 0.2]), torch.zeros(3)))
    image = Renderer(scene, masks=["ball"], detail=4.0).render(params, torch.eye(4).repeat(2, 1, 1), camera)
    origin, ray = rays(camera)
    a, b, c = (ray * ray).sum(-1), (ray * origin).sum(-1), (origin * origin).sum() - 0.1**2
    hit = b * b - a * c > 0
    depth = (-b - (b * b - a * c).clamp(min=0).sqrt()) / a
    inner = b * b - a * c > 2e-3
    assert (image.depth - depth)[inner].abs().max() < 1e-3
    assert abs(float(image.masks["ball"].sum()) / float(hit.sum()) - 1) < 0.01


def test_masks_leave_no_gap_inside_a_body():
    """Faces that meet leave no sample between them: a block that fills the image covers it wholly, from any side."""
    scene, params = loose_scene({"ball": [LooseSolid(CAPSULE, (0.2, 0.1))]})
    renderer = Renderer(scene, masks=["ball"])
    for seed in range(10):
        eye = torch.randn(3, generator=torch.Generator().manual_seed(seed))
        camera = Camera.from_fov(64, 64, 0.3, look_at(0.5 * eye / eye.norm(), torch.zeros(3)))
        image = renderer.render(params, torch.eye(4).repeat(2, 1, 1), camera)
        assert float(image.masks["ball"].min()) == 1.0 and image.valid.all()


def test_a_crop_is_the_crop_of_the_whole_image():
    scene, params = small_scene()
    renderer, camera = Renderer(scene, masks=["peg"]), small_camera(96)
    whole = renderer.render(params, small_poses(), camera)
    crop = renderer.render(params, small_poses(), camera.crop(Roi(30, 20, 40), 40))
    for a, b in ((whole.color, crop.color), (whole.masks["peg"], crop.masks["peg"]), (whole.depth, crop.depth)):
        same = (a[20:60, 30:70] - b).abs() < 1e-4
        assert same.float().mean() > 0.998  # a sample exactly on an edge may fall either way


def test_a_mask_of_several_bodies_is_the_sum_of_theirs():
    scene, params = small_scene()
    draw = lambda masks: Renderer(scene, masks=masks).render(params, small_poses(), small_camera()).masks  # noqa: E731
    each, both = draw(["block", "peg"]), draw({"both": ("block", "peg"), "peg": ("peg",)})
    assert torch.allclose(both["both"], each["block"] + each["peg"], atol=1e-5) and torch.equal(both["peg"], each["peg"])


def test_links_name_what_is_seen():
    scene, params = small_scene()
    image, links = Renderer(scene, masks=["block", "peg"]).render_links(params, small_poses(), small_camera())
    for name in ("block", "peg"):
        assert (image.masks[name][links == scene.link(name)] > 0).all() and (links == scene.link(name)).any()
    assert ((links >= 0) == image.valid).all()


def leaves(batch: tuple[int, ...] = ()) -> list[torch.Tensor]:
    """Poses and camera poses that differ within the batch, ready for gradients."""
    rng = torch.Generator().manual_seed(3)
    move = 0.01 * torch.randn(*batch, 4, 6, generator=rng)
    view = 0.01 * torch.randn(*batch, 6, generator=rng)
    X = lie.retract(small_poses().expand(*batch, 4, 4, 4), move)
    return [X.requires_grad_(), lie.retract(small_camera().X_WC.expand(*batch, 4, 4), view).requires_grad_()]


def total(image) -> torch.Tensor:
    return (image.color**2).sum() + image.masks["peg"].sum() + image.depth.sum()


def test_a_batch_is_its_single_images():
    scene, params = small_scene()
    renderer = Renderer(scene, masks=["peg"])
    color = params.color.clone().requires_grad_()
    params = params.replace(color=color)
    X, X_WC = leaves((2, 3))
    image = renderer.render(params, X, small_camera().at(X_WC))
    assert image.color.shape == (2, 3, 48, 48, 3) and image.depth.shape == image.masks["peg"].shape == (2, 3, 48, 48)
    grads = torch.autograd.grad(total(image), [X, X_WC, color])
    summed = torch.zeros_like(color)
    for i in np.ndindex(2, 3):
        x, x_wc = X[i].detach().requires_grad_(), X_WC[i].detach().requires_grad_()
        one = renderer.render(params, x, small_camera().at(x_wc))
        assert torch.equal(one.color, image.color[i]) and torch.equal(one.depth, image.depth[i])
        g = torch.autograd.grad(total(one), [x, x_wc, color])
        assert torch.allclose(g[0], grads[0][i], rtol=1e-5, atol=1e-4) and torch.allclose(g[1], grads[1][i], rtol=1e-5, atol=1e-4)
        summed += g[2]
    assert torch.allclose(summed, grads[2], rtol=1e-4)


def test_outstanding_passes_go_back_in_any_order_and_thread():
    scene, params = small_scene()
    renderer = Renderer(scene, masks=["peg"])
    X, X_WC = leaves((4,))
    single = lambda i: total(renderer.render(params, X[i], small_camera().at(X_WC[i])))  # noqa: E731
    back = lambda loss: torch.autograd.grad(loss, X, retain_graph=True)[0]  # noqa: E731
    want = [back(single(i)) for i in range(4)]
    losses = [single(i) for i in range(4)]
    for i in (2, 0, 3, 1, 2):
        assert torch.equal(back(losses[i]), want[i])
    with ThreadPoolExecutor(2) as pool:
        assert all(map(torch.equal, pool.map(back, losses), want))


def test_the_same_bits_twice():
    scene, params = small_scene()
    renderer = Renderer(scene, masks=["peg"])
    runs = []
    for _ in range(2):
        X, X_WC = leaves((5,))
        image = renderer.render(params, X, small_camera().at(X_WC))
        runs.append([image.color, image.depth, *torch.autograd.grad(total(image), [X, X_WC])])
    assert all(map(torch.equal, *runs))


def test_a_list_that_is_too_short_grows():
    scene, params = small_scene()
    images = []
    for short in (False, True):
        renderer, X = Renderer(scene, masks=["peg"]), small_poses().requires_grad_()
        if short:
            renderer.render(params, X.detach(), small_camera())
            ((_, idle),) = renderer.subject.images._idle
            idle._room(7, 3)
        image = renderer.render(params, X, small_camera())
        images.append([image.color, image.masks["peg"], torch.autograd.grad(total(image), X)[0]])
    assert all(map(torch.equal, *images))


def test_double_precision_comes_back_in_double_precision():
    scene, params = small_scene()
    X, X_WC = (x.detach().double().requires_grad_() for x in leaves())
    image = Renderer(scene, masks=["peg"]).render(params.to(torch.float64), X, small_camera().at(X_WC))
    assert torch.autograd.grad(total(image), X)[0].dtype == torch.float64


def test_a_plane_of_size_zero_is_drawn_and_what_is_invisible_is_not():
    scene, params = small_scene()
    params = params.replace(geom_size=params.geom_size * (torch.arange(3) > 0)[:, None])
    hidden = dataclasses.replace(scene, geom_visible=np.array([True, False, True]))
    image, links = Renderer(hidden, masks=["block"]).render_links(params, small_poses(), small_camera())
    assert (links == 1).any() and (links == 3).any() and not image.masks["block"].any()


def test_a_rim_without_a_chamfer_counts_once():
    """The chamfer's faces shrink to nothing as the chamfer does, and the gradient has the same limit."""
    scene, params = small_scene()
    grads = []
    for chamfer in (1e-6, 0.0):
        size = params.geom_size.clone()
        size[1, 5] = chamfer
        X = small_poses().requires_grad_()
        camera = small_camera(64, 0.05, -0.02, 0.2)
        (Renderer(scene).render(params.replace(geom_size=size), X, camera).color ** 2).sum().backward()
        grads.append(X.grad[2, :3])
    assert torch.allclose(grads[0], grads[1], rtol=0.02, atol=0.02 * float(grads[1].abs().max()))


def test_errors_say_what_is_wrong():
    scene, params = small_scene()
    renderer, X = Renderer(scene), small_poses()
    with pytest.raises(UnknownNameError, match="peg"):
        Renderer(scene, masks=["pge"])
    with pytest.raises(NonFiniteError, match="X_WL"):
        renderer.render(params, torch.where(torch.arange(4)[:, None, None] == 2, torch.nan, X), small_camera())
    with pytest.raises(NonFiniteError, match="color"):
        renderer.render(params.replace(color=params.color * torch.inf), X, small_camera())
    with pytest.raises(ImageError, match="0 x 48"):
        renderer.render(params, X, dataclasses.replace(small_camera(), width=0))
    with pytest.raises(SceneError, match="99"):
        template(99)


HEAD_ON = look_at(torch.tensor([0.0, 0.0, 3.0]), torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
PLATE = np.array([(0, 1, 2), (0, 2, 3)])


def plate_with(texture: torch.Tensor | None, uv: list, pixels: int = 4) -> torch.Tensor:
    """A square seen head on, its first row of pixels at +y."""
    square = torch.tensor([(-1.0, -1.0, 0.0), (1.0, -1.0, 0.0), (1.0, 1.0, 0.0), (-1.0, 1.0, 0.0)])
    camera = Camera.from_fov(pixels, pixels, 2 * math.atan(1 / 3), HEAD_ON)
    renderer = SurfaceRenderer(surface_mesh(PLATE), uv=np.array(uv)[PLATE])
    return renderer.render(square, torch.ones(4, 3), camera, texture).color


WHOLE = [(0, 1), (1, 1), (1, 0), (0, 0)]  # uv of the square's corners


def random_texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))


def test_a_texture_lies_as_uv_says_and_is_repeated():
    """Two texels a pixel, which are taken at 2 × 2 points: each pixel is their mean."""
    texture = random_texture(8, 8)
    image = plate_with(texture, WHOLE)
    assert torch.allclose(image, texture.view(4, 2, 4, 2, 3).mean((1, 3)), atol=1e-5)
    assert torch.allclose(plate_with(texture, [(3, -1), (4, -1), (4, -2), (3, -2)]), image, atol=1e-4)


@pytest.mark.parametrize("height, width", [(41, 47), (1, 3), (55, 2)])
def test_a_texture_never_reads_beyond_its_texels(height: int, width: int):
    """At its far sides, where it begins again, and where uv is so large that its digits are few."""
    one = torch.ones(height, width, 3)
    for scale, shift in ((1.0, 0.0), (1.0, -1.0), (3e7, 1e7), (1e12, -1e12)):
        uv = [(scale * u + shift, scale * v + shift) for u, v in WHOLE]
        assert torch.allclose(plate_with(one, uv, 47), torch.ones(1), atol=1e-5)


def test_each_image_of_a_batch_has_its_texture_or_all_have_one():
    renderer = SurfaceRenderer(surface_mesh(PLATE), uv=np.array(WHOLE, float)[PLATE])
    square = torch.tensor([(-1.0, -1.0, 0.0), (1.0, -1.0, 0.0), (1.0, 1.0, 0.0), (-1.0, 1.0, 0.0)])
    camera, colors = Camera.from_fov(8, 8, 0.6, HEAD_ON), torch.rand(3, 4, 3, generator=torch.Generator().manual_seed(1))
    each = torch.stack([random_texture(5, 7, seed) for seed in range(3)])
    for texture in (each, each[0]):
        texture = texture.clone().requires_grad_()
        image = renderer.render(square, colors, camera, texture).color
        (grad,) = torch.autograd.grad((image * image).sum(), texture)
        alone, grads = [], []
        for i in range(3):
            x = (texture[i] if texture.dim() == 4 else texture).detach().requires_grad_()
            alone.append(renderer.render(square, colors[i], camera, x).color)
            grads.append(torch.autograd.grad((alone[-1] * alone[-1]).sum(), x)[0])
        assert torch.equal(image, torch.stack(alone))
        assert torch.allclose(grad, torch.stack(grads) if texture.dim() == 4 else sum(grads), atol=1e-5)


def test_a_texture_of_ones_changes_nothing_up_to_the_horizon():
    floor = torch.tensor([(-1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 20.0, 0.0), (-1.0, 20.0, 0.0)])
    colors = torch.rand(4, 3, generator=torch.Generator().manual_seed(1))
    plain = SurfaceRenderer(surface_mesh(PLATE))
    textured = SurfaceRenderer(surface_mesh(PLATE), uv=np.array(WHOLE, float)[PLATE])
    for height in (0.02, 0.05, 0.1, 0.3):
        camera = Camera.from_fov(64, 64, 0.8, look_at(torch.tensor([0.1, -0.5, height]), torch.tensor([0.0, 5.0, 0.0])))
        images = [plain.render(floor, colors, camera).color, textured.render(floor, colors, camera, torch.ones(4, 4, 3)).color]
        assert images[1].min() > -0.05 and images[1].max() < 1.05
        assert (images[0] - images[1]).abs().max() < 0.1 and (images[0] - images[1]).abs().mean() < 1e-3


def test_a_texture_that_cannot_be_shown_is_refused():
    with pytest.raises(ImageError, match="one came without the other"):
        plate_with(None, WHOLE)
    with pytest.raises(ImageError, match="uv has shape"):
        SurfaceRenderer(surface_mesh(np.array([(0, 1, 2)])), uv=np.zeros((3, 2)))
    for texture in (torch.ones(4, 4, 4), torch.ones(4, 4), torch.ones(0, 4, 3), torch.ones(4, 4, 3, dtype=torch.uint8)):
        with pytest.raises(ImageError, match=r"takes \(\*batch, height, width, 3\)"):
            plate_with(texture, WHOLE)
    with pytest.raises(NonFiniteError, match="texture holds 1 non-finite"):
        plate_with(
            torch.ones(4, 4, 3).index_put((torch.tensor(1), torch.tensor(2), torch.tensor(0)), torch.tensor(torch.nan)), WHOLE
        )
    with pytest.raises(NonFiniteError, match="uv holds 2 non-finite"):
        plate_with(torch.ones(4, 4, 3), [(0, torch.inf), *WHOLE[1:]])
