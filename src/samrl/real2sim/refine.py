"""A scanned surface made to look like its views: vertices and colours, by gradients of the image loss (SAM-RL Eq. 5).

Each vertex moves along its normal at the start, by the gradient of the masked image loss (colour, coverage, capped depth) of all
views through the renderer. The gradient of a vertex is divided by how much the views' depth follows it, which for an L1 loss
makes a mean of signs, and then smoothed, (1 + λ L) step = gradient with a graph Laplacian L, as Nicolet et al. 2021 ("Large
steps in inverse rendering of geometry") do against tangles: noise of single vertices is not followed, and a bump's shape
is not pulled flat. Steps that would make faces cross are taken back where they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
import torch
import warp as wp
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.sparse.linalg import cg
from torch import Tensor

from samrl.core.camera import Camera
from samrl.core.errors import ScanError
from samrl.model.render import Settings, SurfaceRenderer, surface_mesh
from samrl.real2sim import ray_kernels
from samrl.real2sim.crossings import Crossings
from samrl.real2sim.losses import MaskedImage
from samrl.real2sim.scan import Scan, ScanFrame
from samrl.real2sim.tsdf import TRUNCATION, Surface

_PIXEL = 0.7  # of a voxel that a pixel covers at the median depth, by averaging whole pixels
_PER_METER = 40.0  # weight of depth beside colour [1/m]
_RATES = (0.15, 0.05)  # first steps: of vertices [voxel], of colours
_LAST = 0.03  # share of these that the last steps have
_SMOOTH, _STIFF = 4.0, 50.0  # λ; most that an edge weighs, against the median one
_SEEN = 0.1  # of the median: what a vertex that is seen less is divided by
_RINGS = 2  # of faces about those that a view sees which it draws
_MOMENTUM = 0.5


@dataclass
class _View:
    """One view of a part of the mesh. used: (n) its vertices; weights: how much depth and colour follow each, once known."""

    used: np.ndarray
    renderer: SurfaceRenderer
    camera: Camera
    loss: MaskedImage
    color: Tensor
    weights: tuple[np.ndarray, np.ndarray] | None = field(default=None)


def refine(
    surface: Surface, scan: Scan, voxel: float, max_depth: float, steps: int, say: Callable[[str], None] | None = None
) -> Surface:
    """The surface, moved and coloured to look as the views of a scan (all of them: hold views out before).

    Args:
        voxel: of the fusion that made it [m]; max_depth: readings beyond are not taken [m]; steps: each looks at every view.
        say: is told of each step's loss.

    Raises: ScanError if no view sees the surface.
    """
    views = [v for f in scan.frames if (v := _view(surface, scan, f, voxel, max_depth)) is not None]
    if not views:
        raise ScanError("no view sees the surface, so there is nothing to refine it by.")
    n, normals = len(surface.vertices), _normals(surface)
    smooth = _smoother(surface.vertices, surface.faces)
    crossings = Crossings(surface.vertices, surface.faces)
    allowed = crossings.find(surface.vertices)
    at, colors, momentum = surface.vertices.copy(), surface.colors.astype(float), np.zeros(n)
    for i in range(steps):
        losses, g_at, g_color, follow, shown = _gradient(views, at, colors, normals)
        if say is not None:
            say(f"step {i + 1} of {steps}: loss {losses:.5f}")
        rate = 0.5 * (1 + math.cos(math.pi * i / steps)) + _LAST
        momentum = _MOMENTUM * momentum + (1 - _MOMENTUM) * smooth(_share(g_at, _PER_METER * follow))
        way = rate * _RATES[0] * voxel * momentum / (1 - _MOMENTUM ** (i + 1))
        at = crossings.free_step(at, at - way[:, None] * normals, allowed)
        colors = np.clip(colors - rate * _RATES[1] * _share(g_color, shown[:, None]), 0, 1)
    return Surface(at, surface.faces, colors.astype(surface.colors.dtype), surface.weight)


def _share(gradient: np.ndarray, most: np.ndarray) -> np.ndarray:
    """A gradient in parts of what it would be if all signs agreed, for vertices that are seen; -1 to 1."""
    seen = most[most > 0]
    floor = _SEEN * float(np.median(seen)) if len(seen) else 1.0
    return np.clip(gradient / np.maximum(most, floor), -1, 1)


def _gradient(
    views: list[_View], at: np.ndarray, colors: np.ndarray, normals: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean loss, and sums over views of its gradient by a way along normals (V) and by colours (V, 3); how much depth (V) and
    colour (V) of all pixels follow each vertex."""
    total, n = 0.0, len(at)
    g_at, g_color, follow, shown = np.zeros(n), np.zeros((n, 3)), np.zeros(n), np.zeros(n)
    for view in views:
        vertices = torch.tensor(at[view.used], dtype=torch.float32, requires_grad=True)
        color = torch.tensor(colors[view.used], dtype=torch.float32, requires_grad=True)
        image = view.renderer.render(vertices, color, view.camera)
        with torch.no_grad():  # where the surface's depth is another's, so is the colour: it is not of what is drawn
            same = ((image.depth - view.loss.real[1][0, 0]).abs() < view.loss.scales[1]).float()
        masks = image.masks["surface"] * same
        with torch.no_grad():
            both = masks * (view.color.sum(-1) > 0)
            gain = (view.color.sum(-1) * both).sum() / (image.color.sum(-1) * both).sum().clamp_min(1e-6)
        loss = view.loss((gain * image.color)[None, None], image.depth[None, None], masks[None, None, None]).sum()
        g_v, g_c = torch.autograd.grad(loss, (vertices, color), retain_graph=view.weights is None)
        if view.weights is None:
            scale = view.loss.real[3][0, 0]
            (d_v,) = torch.autograd.grad((image.depth * scale * (view.loss.real[1][0, 0] > 0)).sum(), vertices, retain_graph=True)
            (d_c,) = torch.autograd.grad((image.color * scale[..., None]).sum() / 3, color)
            view.weights = np.abs((d_v.numpy() * normals[view.used]).sum(1)), float(gain) * d_c.numpy().mean(1)
        g_at[view.used] += (g_v.numpy() * normals[view.used]).sum(1)
        g_color[view.used] += g_c.numpy()
        follow[view.used] += view.weights[0]
        shown[view.used] += view.weights[1]
        total += float(loss.detach())
    return total / len(views), g_at, g_color, follow, shown


def _view(surface: Surface, scan: Scan, frame: ScanFrame, voxel: float, max_depth: float) -> _View | None:
    """A frame, and what it sees of the surface; None if that is nothing."""
    seen = _seen(surface, scan, frame.X_SC)
    depth = frame.depth()
    if not seen.any() or not (depth > 0).any():
        return None
    used, faces = np.unique(surface.faces[seen], return_inverse=True)
    k = max(1, int(_PIXEL * voxel * scan.K[0, 0] / float(np.median(depth[depth > 0]))))
    color, z, weight = _coarser(frame.color(), depth, k, max_depth, TRUNCATION * voxel)
    K = torch.tensor([scan.K[0, 0], scan.K[1, 1], scan.K[0, 2], scan.K[1, 2]], dtype=torch.float32) / k
    camera = Camera(z.shape[1], z.shape[0], K, torch.tensor(frame.X_SC, dtype=torch.float32))
    renderer = SurfaceRenderer(surface_mesh(faces.reshape(-1, 3)), Settings(threads=1), mask=True)
    there = (weight > 0).float()
    loss = MaskedImage(color[None], z[None, None], there[None, None], weight[None], _PER_METER, TRUNCATION * voxel, 1)
    return _View(used, renderer, camera, loss, color * there[..., None])


def _coarser(color: np.ndarray, depth: np.ndarray, k: int, max_depth: float, jump: float) -> tuple[Tensor, Tensor, Tensor]:
    """Means over k × k pixels of color (H, W, 3) and depth (H, W) [m], and weights (1/z², as in the fusion): 0 where a pixel of
    them or about them has no reading, or lies more than `jump` [m] from another: depth there is of two surfaces."""
    h, w = depth.shape[0] // k, depth.shape[1] // k
    block = lambda x: x[: h * k, : w * k].reshape(h, k, w, k, *x.shape[2:])  # noqa: E731
    reads = (depth > 0) & (depth <= max_depth)
    low = minimum_filter(block(np.where(reads, depth, 0.0)).min((1, 3)), 3)
    high = maximum_filter(block(np.where(reads, depth, 0.0)).max((1, 3)), 3)
    good = (low > 0) & (high - low < jump)
    z = np.where(good, block(depth).mean((1, 3)), 0.0).astype(np.float32)
    weight = np.where(good, 1 / np.maximum(z, 0.1) ** 2, 0.0).astype(np.float32)
    return torch.from_numpy(block(color).mean((1, 3)).astype(np.float32)), torch.from_numpy(z), torch.from_numpy(weight)


def _seen(surface: Surface, scan: Scan, X_SC: np.ndarray) -> np.ndarray:
    """(F) bool: faces that rays through a view's pixels meet first, and those about them."""
    mesh = wp.Mesh(
        points=wp.array(surface.vertices.astype(np.float32), dtype=wp.vec3, device="cpu"),
        indices=wp.array(surface.faces.astype(np.int32).ravel(), dtype=int, device="cpu"),
    )
    hit = wp.zeros(len(surface.faces), dtype=int, device="cpu")
    inputs = [
        mesh.id,
        wp.mat44(X_SC.astype(np.float32)),
        wp.mat33(np.linalg.inv(scan.K).astype(np.float32)),
        scan.width,
        1e3,
        hit,
    ]
    wp.launch(ray_kernels.mark, dim=scan.width * scan.height, inputs=inputs, device="cpu")
    seen = hit.numpy() > 0
    for _ in range(_RINGS):
        touched = np.zeros(len(surface.vertices), bool)
        touched[surface.faces[seen]] = True
        seen = touched[surface.faces].any(1)
    return seen


def _normals(surface: Surface) -> np.ndarray:
    """(V, 3) unit normals of vertices, faces about them weighted by area."""
    a, b, c = surface.vertices[surface.faces].transpose(1, 0, 2)
    cross, out = np.cross(b - a, c - a), np.zeros_like(surface.vertices)
    for k in range(3):
        for axis in range(3):
            out[:, axis] += np.bincount(surface.faces[:, k], cross[:, axis], len(out))
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-15)


def _smoother(vertices: np.ndarray, faces: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """x (V) -> (1 + λ L)⁻¹ x, L the Laplacian of the graph whose edges weigh 1/length², in parts of the median's: what is left
    of a cube by marching are slivers too, whose ends belong together."""
    n = len(vertices)
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([ends, ends[:, ::-1]]).T
    links = sp.coo_matrix((np.ones(both.shape[1]), (both[0], both[1])), (n, n)).tocsr().tocoo()  # each edge once
    length = np.linalg.norm(vertices[links.row] - vertices[links.col], axis=1)
    links.data[:] = np.minimum((np.median(length) / np.maximum(length, 1e-9)) ** 2, _STIFF)
    links = links.tocsr()
    degree = np.asarray(links.sum(1)).ravel()
    system = (sp.diags(1 + _SMOOTH * degree) - _SMOOTH * links).tocsr()
    scale = sp.diags(1 / (1 + _SMOOTH * degree))
    return lambda x: cg(system, x, rtol=1e-3, maxiter=100, M=scale)[0]
