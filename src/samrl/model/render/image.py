"""A mesh on the device, and images of it: the buffers of a forward pass and the kernel launches that fill and pull them back.

The launches are packed once; later passes of the same size only point them at new tensors. Images are kept for reuse once
their pass is over.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import warp as wp
from torch import Tensor

from samrl.core.errors import NonFiniteError, check_finite
from samrl.core.launches import Job, Launches, Slot, array
from samrl.model.render.kernels import fill, pieces, trace, types
from samrl.model.render.kernels import image as pixels
from samrl.model.render.meshes import Mesh

Size = tuple[int, int, int]  # batch, height, width
STRIDE = 256  # pieces, or marked cells, that are gone through at once
KEPT_BYTES = 96 * 2**20  # idle images of one renderer take at most so much


@dataclass(frozen=True)
class Settings:
    """near distance [m]; background colour; threads for a batch on the CPU; device of the kernels; whether depth is the mean
    over a pixel or that at its centre."""

    near: float = 0.01
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    threads: int = 2
    device: str = "cpu"
    mean_depth: bool = False


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
    surfaces: Any = field(init=False)  # the surface, as kernels take it
    face_link: Any = field(init=False)
    free: bool = False  # whether vertices move freely
    _wanted: dict[tuple[bool, ...], tuple[Any, bool]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        m = self.mesh
        self.surface = types.Surface()
        self.surface.faces = self.upload(m.faces, wp.vec3i)
        self.surface.corners = self.upload(m.corners, wp.vec3i)
        self.surface.edges = self.upload(m.edges, int)
        self.surface.bits = self.upload(self.bits[m.face_part], int)
        self.surface.convex = self.upload(m.face_convex, int)
        self.surface.part = self.upload(m.face_part, int)
        self.surface.moves = self.upload(self.part_moves[m.face_part].astype(np.int32), int)
        self.surfaces = wp.array([self.surface], dtype=types.Surface, device=self.settings.device)
        self.face_link = self.upload(self.part_link[m.face_part], int)

    def upload(self, values: np.ndarray, dtype: Any) -> Any:
        return wp.array(np.ascontiguousarray(values), dtype=dtype, device=self.settings.device)

    def wanted(self, vertices_all: bool, vertices_moving: bool, corners_all: bool, corners_moving: bool) -> tuple:
        """What gets a gradient: bits of each face, and whether any vertex does."""
        key = (vertices_all, vertices_moving, corners_all, corners_moving)
        if key not in self._wanted:
            vertices = vertices_all | (vertices_moving & self.part_moves)
            corners = corners_all | (corners_moving & self.part_moves)
            bits = np.where(vertices, int(types.VERTICES), 0) | np.where(corners, int(types.CORNERS), 0)
            self._wanted[key] = (self.upload(bits[self.mesh.face_part], int), bool(vertices.any()))
        return self._wanted[key]


class Image:
    """A batch of images: buffers (z-buffer, face setups, projected vertices), slots for what comes and goes, and recorded
    launches. One forward pass owns it until its backward pass can no longer come.

    Args:
        size: batch, height, width.
        inputs: shapes (1 or batch, …) and kernel types of the pass's inputs.
    """

    def __init__(self, mesh: DeviceMesh, size: Size, inputs: Sequence[tuple[torch.Size, Any]]) -> None:
        self.mesh, (self.batch, self.height, self.width) = mesh, size
        self.lock = threading.Lock()
        self._launches: dict[tuple, Launches] = {}
        self._buffers()
        shape, device = (self.batch, self.height, self.width), mesh.settings.device
        slot = lambda shape, dtype: Slot(shape, dtype, device)  # noqa: E731
        planes = (self.batch, mesh.mask_count, self.height, self.width)
        self.color, self.depth, self.masks = slot((*shape, 3), wp.vec3), slot(shape, wp.float32), slot(planes, wp.float32)
        self.g_color, self.g_depth = slot((*shape, 3), wp.vec3), slot(shape, wp.float32)
        self.g_masks = slot(planes, wp.float32)
        self.inputs = [slot(s, d) for s, d in inputs]
        self.g_inputs = [slot((self.batch, *s[1:]), d) for s, d in inputs]

    def _buffers(self) -> None:
        m, settings = self.mesh.mesh, self.mesh.settings
        new = lambda *shape, **kw: torch.empty(self.batch, *shape, device=settings.device, **kw)  # noqa: E731
        self.h, self.shade = new(int(m.vertex_start[-1]), 3), new(int(m.corner_start[-1]), 3)
        self.g_h, self.g_shade = torch.empty_like(self.h), torch.empty_like(self.shade)
        self.setup, self.facing = new(len(m.faces), 11), new(len(m.faces), dtype=torch.int32)
        self.median = new(len(m.faces), 4)
        pixels = (self.height, self.width)
        self.zbuffer, self.lists = new(*pixels, dtype=torch.int64), new(*pixels, dtype=torch.int32)
        self.marked, self.used = new(self.height * self.width, dtype=torch.int32), new(4, dtype=torch.int32)
        self.sides, self.runs, self.ends = new(len(m.edges), 4, dtype=torch.int32), new(len(m.edges), 4), new(len(m.edges), 2)
        self.links = new(self.height, self.width, dtype=torch.int32)
        self.frame = types.Frame()
        self.frame.h, self.frame.shade = array(self.h, wp.vec3), array(self.shade, wp.vec3)
        self.frame.setup, self.frame.facing = array(self.setup, types.Setup), array(self.facing)
        self.frame.zbuffer, self.frame.lists, self.frame.used = array(self.zbuffer), array(self.lists), array(self.used)
        self.frame.marked, self.frame.median = array(self.marked), array(self.median, wp.vec4)
        self.frame.sides, self.frame.runs = array(self.sides, wp.vec4i), array(self.runs, wp.vec4)
        self.frame.ends = array(self.ends, wp.vec2)
        self.frame.background = wp.vec3(*settings.background)
        self.frame.near, self.frame.mean_depth = settings.near, int(settings.mean_depth)
        self.frame.free = int(self.mesh.free)
        self.arrays = [array(x, wp.vec3) for x in (self.h, self.shade, self.g_h, self.g_shade)]
        self._room(self.lists[0].numel() // 2 + 4 * len(m.faces), self.lists[0].numel() // 4 + 2 * len(m.edges))

    def _room(self, nodes: int, pieces: int) -> None:
        """Room for so many nodes of lists and pieces of edges, an image."""
        new = lambda *shape, **kw: torch.empty(self.batch, *shape, device=self.h.device, **kw)  # noqa: E731
        self.nodes = new(nodes, 4, dtype=torch.int32)
        self.pieces, self.lines = new(pieces, 4, dtype=torch.int32), new(pieces, 4)
        self.frame.nodes, self.frame.pieces = array(self.nodes, wp.vec4i), array(self.pieces, wp.vec4i)
        self.frame.lines = array(self.lines, wp.vec4)
        self.frames: Any = wp.array([self.frame], dtype=types.Frame, device=str(self.h.device))
        self.bytes = sum(x.nbytes for x in vars(self).values() if isinstance(x, Tensor))
        self._launches.clear()

    def _fits(self) -> bool:
        """Whether there was room for all nodes and pieces. If not, there will be."""
        nodes, pieces, *_ = self.used.amax(0).tolist()
        if nodes <= self.nodes.shape[1] and pieces <= self.pieces.shape[1]:
            return True
        self._room(max(nodes * 5 // 4, self.nodes.shape[1]), max(pieces * 5 // 4, self.pieces.shape[1]))
        return False

    def check(self, inputs: dict[str, Tensor]) -> None:
        """Raise NonFiniteError, naming the input at fault, if anything projected or lit is not finite."""
        if math.isfinite(float(self.h.sum()) + float(self.shade.sum())):
            return
        for name, values in inputs.items():
            check_finite(name, values)
        raise NonFiniteError("a vertex or a colour of the render is not finite, though all inputs are: too large a pose?")

    def draw(self, project: Callable[[Image], list[Job]], inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Project, fill, resolve: colour (batch, H, W, 3), depth or mean 1/depth (batch, H, W), masks (batch, M, H, W), links
        (batch, H, W)."""
        for slot, x in zip(self.inputs, inputs.values(), strict=True):
            slot.bind(x)
        color, depth, masks = (torch.empty(s.shape, device=self.h.device) for s in (self.color, self.depth, self.masks))
        for slot, x in zip((self.color, self.depth, self.masks), (color, depth, masks), strict=True):
            slot.bind(x)
        self._draw(project)
        self.check(inputs)
        while not self._fits():
            self._draw(project)
        return color, depth, masks, self.links.clone()

    def _draw(self, project: Callable[[Image], list[Job]]) -> None:
        for x in (self.zbuffer, self.lists, self.used):
            x.zero_()

        def jobs() -> list[Job]:
            surface, frame, m = self.mesh.surfaces, self.frames, self.mesh.mesh
            out = (self.color.array, self.depth.array, self.masks.array)
            zbuffer, mean = array(self.zbuffer), int(self.mesh.settings.mean_depth)
            return [
                *project(self),
                (fill.fill, len(m.faces), (surface, frame, zbuffer)),
                (fill.mark_edges, len(m.edges), (surface, frame)),
                (fill.mark_crossings, self.height, (surface, frame, zbuffer)),
                (fill.list_faces, len(m.faces), (surface, frame, array(self.lists))),
                (pixels.resolve, self.height, (surface, frame, zbuffer, self.mesh.face_link, mean, *out, array(self.links))),
                (trace.trace_edges, STRIDE, (surface, frame, STRIDE, *out)),
                (trace.trace_curves, STRIDE, (surface, frame, STRIDE, *out)),
            ]

        self.play(("draw",), jobs)

    def pull_back(self, grads: Sequence[Tensor | None], wanted: tuple, key: tuple, finish: Callable[[Image], list[Job]]) -> None:
        """Adjoint of `draw`; `finish` that of the projection, from g_h and g_shade on. `key`: what the launches depend on,
        beside which gradients come."""
        held = [None if g is None else g.contiguous() for g in grads]
        for slot, g in zip((self.g_color, self.g_depth, self.g_masks), held, strict=True):
            slot.bind(g)
        self.g_h.zero_()
        self.g_shade.zero_()
        has = tuple(g is not None for g in grads)
        self.play((key, has), lambda: [*self._adjoint(wanted, *has), *finish(self)])

    def _adjoint(self, wanted: tuple, has_color: bool, has_depth: bool, has_masks: bool) -> list[Job]:
        faces, moves = wanted
        surface, frame, masks = self.mesh.surfaces, self.frames, self.mesh.mask_count * has_masks
        _, _, g_h, g_shade = self.arrays
        gc, gd, gm = self.g_color.array, self.g_depth.array, self.g_masks.array
        jobs: list[Job] = []
        if has_color or has_depth:
            by, mean = (int(has_color), int(has_depth)), int(self.mesh.settings.mean_depth)
            inside = (surface, frame, array(self.zbuffer), faces, mean, gc, gd, *by, self.width, g_h, g_shade)
            jobs.append((pixels.pull_back_interior, self.height, inside))
        by = int(has_color), int(has_depth and self.mesh.settings.mean_depth)
        if any(by) or (moves and masks):
            beside = (surface, frame, faces, STRIDE, gc, gd, gm, *by, masks, g_h, g_shade)
            jobs.append((pieces.pull_back_pieces, STRIDE, beside))
        return jobs

    def play(self, key: tuple, jobs: Callable[[], list[Job]]) -> None:
        """Launch the jobs, which depend on `key` alone."""
        if key not in self._launches:
            settings = self.mesh.settings
            self._launches[key] = Launches(jobs(), self.batch, settings.threads, settings.device, one_by_one=True)
        self._launches[key].launch()


class Images:
    """Idle images of one renderer, by size. `take` hands one out; it comes back by `give`."""

    def __init__(self) -> None:
        self._idle: list[tuple[tuple, Image]] = []
        self._lock = threading.Lock()

    def take(self, key: tuple, make: Callable[[], Image]) -> Image:
        with self._lock:
            for i in reversed(range(len(self._idle))):
                if self._idle[i][0] == key:
                    return self._idle.pop(i)[1]
        return make()

    def give(self, key: tuple, image: Image) -> None:
        with self._lock:
            self._idle.append((key, image))
            while sum(kept.bytes for _, kept in self._idle) > KEPT_BYTES:
                self._idle.pop(0)


class Lease:
    """An image for as long as this object lives: that of a forward pass's context, so that backward passes may come in any
    number, order and thread, or not at all."""

    def __init__(self, images: Images, key: tuple, make: Callable[[], Image]) -> None:
        self._images, self._key, self.image = images, key, images.take(key, make)

    def __del__(self) -> None:
        if hasattr(self, "image"):  # `take` may have failed
            self._images.give(self._key, self.image)
