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
from samrl.core.launches import Job, Launches, Slot, array, load_ahead, on_stream
from samrl.model.render.kernels import fill, geometry, pieces, trace, types
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
        uv: (F, 3, 2) where in a texture the corners of each face lie; None: no texture.
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
    uv: np.ndarray | None = None
    _wanted: dict[tuple[bool, ...], tuple[Any, bool]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        m = self.mesh
        kernels = geometry.project_solids, fill.fill, trace.trace_edges, pixels.resolve, pieces.pull_back_pieces
        load_ahead(kernels, self.settings.device)  # and with them those beside them
        self.surface = types.Surface()
        self.surface.faces = self.upload(m.faces, wp.vec3i)
        self.surface.corners = self.upload(m.corners, wp.vec3i)
        self.surface.edges, self.surface.edge_corners = (self.upload(m.edges[:, i : i + 4], wp.vec4i) for i in (0, 4))
        self.surface.bits = self.upload(self.bits[m.face_part], int)
        self.surface.convex = self.upload(m.face_convex, int)
        self.surface.part = self.upload(m.face_part, int)
        self.surface.moves = self.upload(self.part_moves[m.face_part].astype(np.int32), int)
        self.surface.uv = self.upload(np.zeros((0, 2)) if self.uv is None else self.uv.reshape(-1, 2), wp.vec2)
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


class Frames:
    """The `types.Frame`s of a batch: where each image's kernels find their numbers.

    Args:
        frame: what all have in common.
    """

    def __init__(self, frame: Any, batch: int, device: str) -> None:
        struct: Any = types.Frame
        values = np.repeat(np.array([frame.numpy_value()], struct.numpy_dtype()), batch)
        self.array: Any = wp.array(values, dtype=types.Frame, device=device)
        self._device = torch.device(device)
        self._on_host = self._device.type == "cpu"
        self._values = self.array.numpy() if self._on_host else values  # on the host, the kernels' own memory
        self._images = np.arange(batch, dtype=np.uint64)
        self._bytes = {n: wp.types.type_size_in_bytes(v.type.dtype) for n, v in struct.vars.items() if hasattr(v.type, "dtype")}

    def set(self, **values: int) -> None:
        """Numbers that all images have in common."""
        for name, value in values.items():
            self._values[name] = value
        self._write()

    def point(self, **tensors: Tensor | None) -> None:
        """Point fields at tensors (batch, …), or (1, …) for all, contiguous, which the caller keeps alive; at nothing: None."""
        for name, tensor in tensors.items():
            field = self._values[name]
            if tensor is None:
                field["data"], field["shape"] = 0, 0
                continue
            size, each = self._bytes[name], tensor[0].nbytes
            field["data"] = np.uint64(tensor.data_ptr()) + self._images * np.uint64(each if len(tensor) > 1 else 0)
            field["shape"][:, 0], field["strides"][:, 0], field["ndim"] = each // size, size, 1
        self._write()

    def _write(self) -> None:
        if not self._on_host:
            with on_stream(self._device):
                self.array.assign(self._values)


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
        slot = lambda shape, dtype: Slot(shape, dtype, mesh.settings.device)  # noqa: E731
        self.inputs = [slot(s, d) for s, d in inputs]
        self.g_inputs = [slot((self.batch, *s[1:]), d) for s, d in inputs]

    def _new(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(self.batch, *shape, dtype=dtype, device=self.mesh.settings.device)

    def _buffers(self) -> None:
        m, settings, new, word = self.mesh.mesh, self.mesh.settings, self._new, torch.int32
        faces, edges, pixels = len(m.faces), len(m.edges), self.height * self.width
        self.h, self.shade = new(int(m.vertex_start[-1]), 3), new(int(m.corner_start[-1]), 3)
        self.g_h, self.g_shade = torch.empty_like(self.h), torch.empty_like(self.shade)
        self.arrays = [array(x, wp.vec3) for x in (self.h, self.shade, self.g_h, self.g_shade)]
        self.setup, self.facing, self.narrow = new(faces, 11), new(faces, dtype=word), new(faces, 5)
        self.zbuffer, self.lists = new(pixels, dtype=torch.int64), new(pixels, dtype=word)
        self.marked, self.used = new(pixels, dtype=word), new(4, dtype=word)
        self.sides, self.runs, self.ends = new(edges, 4, dtype=word), new(edges, 4), new(edges, 2)
        frame = types.Frame()
        frame.width, frame.height, frame.mask_count = self.width, self.height, self.mesh.mask_count
        frame.background, frame.near = wp.vec3(*settings.background), settings.near
        frame.mean_depth, frame.free = int(settings.mean_depth), int(self.mesh.free)
        self.frames = Frames(frame, self.batch, settings.device)
        self.frames.point(**{n: x for n, x in vars(self).items() if isinstance(x, Tensor)})  # named as the fields are
        self._room(pixels // 2 + 4 * faces, pixels // 4 + 2 * edges)

    def _room(self, nodes: int, pieces: int) -> None:
        """Room for so many nodes of lists and pieces of edges, an image."""
        self.nodes = self._new(nodes, 4, dtype=torch.int32)
        self.pieces, self.lines = self._new(pieces, 4, dtype=torch.int32), self._new(pieces, 4)
        self.frames.point(nodes=self.nodes, pieces=self.pieces, lines=self.lines)
        self.bytes = sum(x.nbytes for x in vars(self).values() if isinstance(x, Tensor))

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
        size = (self.height, self.width)
        color, depth, masks = self._new(*size, 3), self._new(*size), self._new(self.mesh.mask_count, *size)
        links = self._new(*size, dtype=torch.int32)
        self.frames.point(color=color, depth=depth, masks=masks, links=links)
        self._draw(project)
        self.check(inputs)
        while not self._fits():
            self._draw(project)
        return color, depth, masks, links

    def _draw(self, project: Callable[[Image], list[Job]]) -> None:
        def jobs() -> list[Job]:
            both, m = (self.mesh.surfaces, self.frames.array), self.mesh.mesh
            return [
                *project(self),
                (fill.clear, self.height, both[1:]),
                (fill.fill, len(m.faces), both),
                (fill.mark_edges, len(m.edges), both),
                (fill.mark_crossings, self.height, both),
                (fill.list_faces, len(m.faces), both),
                (pixels.resolve, self.height, (*both, self.mesh.face_link)),
                (trace.trace_edges, STRIDE, (*both, STRIDE)),
                (trace.trace_curves, STRIDE, (*both, STRIDE)),
            ]

        self.play(("draw",), jobs)

    def pull_back(self, grads: Sequence[Tensor | None], wanted: tuple, key: tuple, finish: Callable[[Image], list[Job]]) -> None:
        """Adjoint of `draw`; `finish` that of the projection, from g_h and g_shade on. `key`: what the launches depend on,
        beside which gradients come."""
        held = [None if g is None else g.contiguous() for g in grads]
        self.frames.point(**dict(zip(("g_color", "g_depth", "g_masks"), held, strict=True)))
        self.g_h.zero_()
        self.g_shade.zero_()
        has = tuple(g is not None for g in grads)
        self.play((key, has), lambda: [*self._adjoint(wanted, *has), *finish(self)])

    def _adjoint(self, wanted: tuple, has_color: bool, has_depth: bool, has_masks: bool) -> list[Job]:
        faces, moves = wanted
        both = (self.mesh.surfaces, self.frames.array)
        jobs: list[Job] = []
        if has_color or has_depth:
            jobs.append((pixels.pull_back_interior, self.height, (*both, faces, int(has_color), int(has_depth))))
        has = int(has_color), int(has_depth and self.mesh.settings.mean_depth), int(has_masks and self.mesh.mask_count > 0)
        if any(has[:2]) or (moves and has[2]):
            jobs.append((pieces.pull_back_pieces, STRIDE, (*both, faces, STRIDE, *has)))
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
