"""The one place where torch and the kernels meet: two autograd functions, for solids and for free surfaces.

Every forward pass owns its buffers (z-buffer, face setups, projected vertices) and hands them to its own backward pass, so
passes may be outstanding in any number and go back in any order and thread. Halves of a batch run in two threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from samrl.core.errors import NonFiniteError, check_finite
from samrl.model.render import geometry_kernels as geometry
from samrl.model.render import raster_kernels as raster
from samrl.model.render.meshes import Mesh

wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)  # Warp tells of each module that it loads

_workers: dict[int, ThreadPoolExecutor] = {}  # by process: threads do not survive a fork


@dataclass(frozen=True)
class Settings:
    """supersampling S; near distance [m]; background colour; threads for a batch on the CPU; device of the kernels."""

    supersampling: int = 2
    near: float = 0.01
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    threads: int = 2
    device: str = "cpu"


@dataclass
class DeviceMesh:
    """A mesh on the device, and which of its parts may want a gradient.

    Attributes:
        part_moves: (P) bool, poses of these parts' links get a gradient.
        bits: (P) int, mask bits of each part; mask_count: how many masks.
    """

    mesh: Mesh
    settings: Settings
    part_link: np.ndarray
    part_moves: np.ndarray
    bits: np.ndarray
    mask_count: int
    surface: Any = field(init=False)
    face_link: Any = field(init=False)
    _wanted: dict[tuple[bool, ...], tuple[Any, Any, int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        m = self.mesh
        self.surface = raster.Surface()
        self.surface.faces = self.upload(m.faces, wp.vec3i)
        self.surface.corners = self.upload(m.corners, wp.vec3i)
        self.surface.edges = self.upload(m.edges, int)
        self.surface.bits = self.upload(self.bits[m.face_part], int)
        self.surface.convex = self.upload(m.face_convex, int)
        self.face_link = self.upload(self.part_link[m.face_part], int)

    def upload(self, values: np.ndarray, dtype: Any) -> Any:
        return wp.array(np.ascontiguousarray(values), dtype=dtype, device=self.settings.device)

    def wanted(self, vertices_all: bool, vertices_moving: bool, corners_all: bool, corners_moving: bool) -> tuple:
        """What gets a gradient: bits of each face, indices of the edges to walk, and how many those are."""
        key = (vertices_all, vertices_moving, corners_all, corners_moving)
        if key not in self._wanted:
            vertices = vertices_all | (vertices_moving & self.part_moves)
            corners = corners_all | (corners_moving & self.part_moves)
            bits = np.where(vertices, int(raster.VERTICES), 0) | np.where(corners, int(raster.CORNERS), 0)
            active = np.nonzero(vertices[self.mesh.edge_part])[0].astype(np.int32)
            self._wanted[key] = (self.upload(bits[self.mesh.face_part], int), self.upload(active, int), len(active))
        return self._wanted[key]


@dataclass
class Image:
    """Size of a batch of images and the buffers of one forward pass."""

    mesh: DeviceMesh
    batch: int
    height: int
    width: int

    def __post_init__(self) -> None:
        m, s = self.mesh.mesh, self.mesh.settings.supersampling
        new = lambda *shape: torch.empty(self.batch, *shape, device=self.mesh.settings.device)  # noqa: E731
        self.h, self.shade = new(int(m.vertex_start[-1]), 3), new(int(m.corner_start[-1]), 3)
        self.setup = new(len(m.faces), 11)
        self.facing = torch.empty(self.batch, len(m.faces), dtype=torch.int32, device=self.h.device)
        self.zbuffer = torch.zeros(self.batch, self.height * s, self.width * s, dtype=torch.int64, device=self.h.device)
        self.frame = raster.Frame()
        self.frame.h = wp.from_torch(self.h, dtype=wp.vec3)
        self.frame.shade = wp.from_torch(self.shade, dtype=wp.vec3)
        self.frame.setup = wp.from_torch(self.setup, dtype=raster.Setup)
        self.frame.facing = wp.from_torch(self.facing)
        self.frame.zbuffer = wp.from_torch(self.zbuffer)
        self.frame.background = wp.vec3(*self.mesh.settings.background)
        self.frame.near = self.mesh.settings.near
        self.frame.S = s

    def check(self, inputs: dict[str, Tensor]) -> None:
        """Raise NonFiniteError, naming the input at fault, if anything projected or lit is not finite."""
        if math.isfinite(float(self.h.sum()) + float(self.shade.sum())):
            return
        for name, values in inputs.items():
            check_finite(name, values)
        raise NonFiniteError("a vertex or a colour of the render is not finite, though all inputs are: too large a pose?")

    def draw(self, project: Callable[[int, int], None], inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Project (by the given function of first and count in the batch), fill, resolve: colour (batch, H, W, 3), depth
        (batch, H, W), masks (batch, M, H, W), links (batch, H, W)."""
        new = lambda *shape, **kw: torch.empty(self.batch, *shape, device=self.h.device, **kw)  # noqa: E731
        shape = (self.height, self.width)
        color, depth = new(*shape, 3), new(*shape)
        masks, links = new(self.mesh.mask_count, *shape), new(*shape, dtype=torch.int32)
        out = [array(color, wp.vec3), array(depth), array(masks), array(links)]
        surface, faces = self.mesh.surface, len(self.mesh.mesh.faces)

        def run(first: int, count: int) -> None:
            project(first, count)
            self.launch(raster.fill, (count, faces), first, surface, self.frame)
            self.launch(raster.resolve, (count, self.height), first, surface, self.frame, self.mesh.face_link, *out)

        self.split(run)
        self.check(inputs)
        return color, depth, masks, links

    def pull_back(self, grads: tuple[Tensor | None, ...], wanted: tuple, finish: Callable) -> Tensor:
        """Adjoint of `draw`; `finish(first, count, g_h, g_shade)` is that of the projection. Returns the gradient by the
        shade of each corner (batch, C, 3)."""
        g_color, g_depth, g_masks = (None if g is None else g.contiguous() for g in grads)
        g_h, g_shade = torch.zeros_like(self.h), torch.zeros_like(self.shade)
        gh, gs = array(g_h, wp.vec3), array(g_shade, wp.vec3)
        nothing = torch.empty(1, 1, 1, 1, 3, device=self.h.device)
        gc = array(nothing[0] if g_color is None else g_color, wp.vec3)
        gd = array(nothing[0, 0, ..., 0] if g_depth is None else g_depth)
        gm = array(nothing[0, ..., :1] if g_masks is None else g_masks)
        has_color, has_depth = int(g_color is not None), int(g_depth is not None)
        mask_count = 0 if g_masks is None else self.mesh.mask_count
        faces, edges, edge_count = wanted
        surface, frame = self.mesh.surface, self.frame

        def run(first: int, count: int) -> None:
            if has_color or has_depth:
                self.launch(
                    raster.pull_back_interior, (count, self.height),
                    first, surface, frame, faces, gc, gd, has_color, has_depth, self.width, gh, gs,
                )  # fmt: skip
            if edge_count and has_color:
                self.launch(
                    raster.pull_back_narrow, (count, len(self.mesh.mesh.faces)), first, surface, frame, faces, gc, gh
                )  # fmt: skip
            if edge_count and (has_color or mask_count):
                self.launch(
                    raster.pull_back_edges, (count, edge_count),
                    first, surface, frame, edges, gc, gm, has_color, mask_count, gh,
                )  # fmt: skip
            finish(first, count, gh, gs)

        self.split(run)
        return g_shade

    def launch(self, kernel: Any, dim: tuple[int, int], *inputs: Any) -> None:
        stream = wp.stream_from_torch(self.h.device) if self.h.is_cuda else None
        wp.launch(kernel, dim=dim, inputs=inputs, device=self.mesh.settings.device, stream=stream)

    def split(self, run: Callable[[int, int], None]) -> None:
        """run(first, count) over the batch, on the CPU in as many threads as the settings say."""
        n = 1 if self.h.is_cuda else min(self.mesh.settings.threads, self.batch)
        bounds = [self.batch * i // n for i in range(n + 1)]
        jobs = [_pool(n).submit(run, a, b - a) for a, b in zip(bounds[1:-1], bounds[2:], strict=True)]
        run(0, bounds[1])
        for job in jobs:
            job.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    pid = os.getpid()
    if pid not in _workers:
        _workers[pid] = ThreadPoolExecutor(max(1, (os.cpu_count() or 2)), thread_name_prefix="render")
    return _workers[pid]


def array(tensor: Tensor, dtype: Any = None) -> Any:
    """A kernel's view of a tensor, which the caller must keep alive."""
    return wp.from_torch(tensor, dtype=dtype, requires_grad=False, return_ctype=True)


class DrawSolids(torch.autograd.Function):
    """Poses, camera and parameters of a scene's solids -> image. Inputs are float32, (1 or batch, …), contiguous."""

    NAMES = (
        "X_WL", "X_WC", "K", "geom_p", "geom_R", "geom_size", "color", "light_direction", "ambient", "diffuse"
    )  # fmt: skip

    @staticmethod
    def forward(ctx: Any, mesh: DeviceMesh, solids: Any, size: tuple[int, int, int], *inputs: Tensor) -> Any:
        image = Image(mesh, *size)
        S = float(mesh.settings.supersampling)
        arrays = _solid_arrays(inputs)
        X_WL, X_WC, K, p, R, sizes, color, light, ambient, diffuse = arrays
        h, shade = image.frame.h, image.frame.shade
        vertices, corners = image.h.shape[1], image.shade.shape[1]

        def project(first: int, count: int) -> None:
            image.launch(
                geometry.project_solids, (count, vertices), first, solids, S, X_WL, X_WC, K, p, R, sizes, h
            )  # fmt: skip
            image.launch(
                geometry.light_solids, (count, corners), first, solids, X_WL, R, color, light, ambient, diffuse, shade
            )  # fmt: skip

        out = image.draw(project, dict(zip(DrawSolids.NAMES, inputs, strict=True)))
        ctx.save_for_backward(*inputs)
        ctx.image, ctx.solids, ctx.arrays = image, solids, arrays
        ctx.mark_non_differentiable(out[3])
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        image, solids, inputs = ctx.image, ctx.solids, ctx.saved_tensors
        needs = ctx.needs_input_grad[3:]
        wanted = image.mesh.wanted(any(needs[1:6]), needs[0], any(needs[6:]) or needs[4], needs[0])
        S = float(image.mesh.settings.supersampling)
        X_WL, X_WC, K, p, R, sizes, color, light, ambient, diffuse = ctx.arrays
        out = [torch.zeros(image.batch, *x.shape[1:], device=x.device) for x in inputs]
        g_X_WL, g_X_WC, g_K, g_p, g_R, g_sizes, g_color, g_light, g_ambient, g_diffuse = _solid_arrays(out)
        g_X_WC = array(out[1][:, None], wp.mat44)
        parts = len(image.mesh.part_link)

        def finish(first: int, count: int, g_h: Any, g_shade: Any) -> None:
            image.launch(
                geometry.pull_back_vertices, (count, parts), first, solids, S, int(needs[5]),
                X_WL, X_WC, K, p, R, sizes, g_h, g_X_WL, g_X_WC, g_K, g_p, g_R, g_sizes,
            )  # fmt: skip
            if grads[0] is not None:
                image.launch(
                    geometry.pull_back_shade, (count, parts), first, solids, X_WL, R, color, light, ambient, diffuse,
                    g_shade, g_X_WL, g_R, g_color, g_light, g_ambient, g_diffuse,
                )  # fmt: skip

        image.pull_back(grads[:3], wanted, finish)
        return None, None, None, *_fold(out, inputs, needs)


def _solid_arrays(tensors: Any) -> list[Any]:
    dtypes = (
        wp.mat44, wp.mat44, wp.vec4, wp.vec3, wp.mat33, geometry.Vec6, wp.vec3, wp.vec3, wp.vec3, wp.vec3
    )  # fmt: skip
    return [array(x, dtype) for x, dtype in zip(tensors, dtypes, strict=True)]


def _fold(grads: list[Tensor], inputs: Any, needs: Any) -> list[Tensor | None]:
    """Gradients (batch, …) -> those of the inputs, summed where an input is shared by the batch."""
    shared = lambda g, x: g.sum(0, keepdim=True) if len(g) != len(x) else g  # noqa: E731
    return [shared(g, x) if need else None for g, x, need in zip(grads, inputs, needs, strict=True)]


class DrawSurface(torch.autograd.Function):
    """Vertices in the world, a colour at each corner and a camera -> image. Inputs as in `DrawSolids`."""

    NAMES = ("vertices", "colors", "X_WC", "K")

    @staticmethod
    def forward(ctx: Any, mesh: DeviceMesh, size: tuple[int, int, int], *inputs: Tensor) -> Any:
        image = Image(mesh, *size)
        S = float(mesh.settings.supersampling)
        vertices, colors, X_WC, K = inputs
        p_W, X, k = array(vertices, wp.vec3), array(X_WC, wp.mat44), array(K, wp.vec4)
        image.shade.copy_(colors.expand_as(image.shade))

        def project(first: int, count: int) -> None:
            image.launch(
                geometry.project_points, (count, image.h.shape[1]), first, S, p_W, X, k, image.frame.h
            )  # fmt: skip

        out = image.draw(project, dict(zip(DrawSurface.NAMES, inputs, strict=True)))
        ctx.save_for_backward(*inputs)
        ctx.image = image
        ctx.mark_non_differentiable(out[3])
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        image, inputs = ctx.image, ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        wanted = image.mesh.wanted(needs[0] or any(needs[2:]), False, needs[1], False)
        S = float(image.mesh.settings.supersampling)
        p_W, X, k = array(inputs[0], wp.vec3), array(inputs[2], wp.mat44), array(inputs[3], wp.vec4)
        out = [torch.zeros(image.batch, *x.shape[1:], device=x.device) for x in inputs]
        g_p, g_X, g_K = array(out[0], wp.vec3), array(out[2][:, None], wp.mat44), array(out[3], wp.vec4)

        def finish(first: int, count: int, g_h: Any, g_shade: Any) -> None:
            image.launch(
                geometry.pull_back_points, (count, image.h.shape[1]), first, S, p_W, X, k, g_h, g_p, g_X, g_K
            )  # fmt: skip

        out[1] = image.pull_back(grads[:3], wanted, finish)
        return None, None, *_fold(out, inputs, needs)
