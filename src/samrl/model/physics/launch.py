"""Launches: torch tensors in, kernels over them, halves of a batch from several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from torch import Tensor

from samrl.core import launches
from samrl.core.launches import load, load_ahead, on_stream
from samrl.model.physics import precision
from samrl.model.physics.layout import Layout

LEAVES = {
    "link_p": "vec3", "link_R": "mat33", "joint_p": "vec3", "mass": "real", "com": "vec3", "inertia": "mat33",
    "stiffness": "real", "damping": "real", "armature": "real", "gravity": "vec3", "geom_p": "vec3", "geom_R": "mat33",
    "geom_size": "vec6", "point": "vec3", "point_radius": "real", "pair_friction": "real", "pair_stiffness": "real",
    "pair_damping": "real",
}  # fmt: skip
"""Differentiable arrays of the kernels' Model and the type of their elements."""

_LINK_VECTORS: tuple[str, ...] = ("p", "arm", "w", "v", "cw", "cv", "bw", "bv")
_WRENCH_VECTORS, _WRENCH_MATRICES = ("torque", "force", "aw", "av"), ("Gww", "Gwv", "Gvv")
_DOF_VECTORS, _DOF_REALS = ("Sw", "Sv"), ("drive", "extra", "residual", "qdd")
_PLAIN_LINK_VECTORS, _PLAIN_LINK_MATRICES = ("pw", "pv", "xw", "xv", "rw", "rv"), ("Iww", "Iwv", "Ivv")
_PLAIN_DOF_VECTORS, _PLAIN_DOF_REALS = ("Uw", "Uv"), ("inv_D", "u")
_SMALLEST_PART = 400  # environment-steps below which a thread costs more than it saves


@dataclass(frozen=True)
class Constants:
    """Numbers of the integrator and the contact model, as in the kernels' Model."""

    h: float
    implicit: float
    slip_speed: float
    contact_width: float
    edge_radius: float
    limit_stiffness: float
    limit_damping: float
    limit_width: float


def as_warp(t: Tensor, dtype: Any, grad: Tensor | None = None) -> Any:
    """A tensor's memory as a Warp array, and the memory that takes its gradient.

    The gradient must hang on the array itself: for arrays in structs the kernels look nowhere else, and only such a
    gradient is set to zero by the adjoint of a store. Without one, the gradient is not computed.
    """
    array: Any = wp.from_torch(t.detach(), dtype=dtype, requires_grad=False)
    if grad is not None:
        array.grad = wp.from_torch(grad, dtype=dtype, requires_grad=False)
    return array


class Structure:
    """The part of the kernels' Model that no call changes, for one number type."""

    def __init__(self, layout: Layout, constants: Constants, dtype: torch.dtype, device: str) -> None:
        self.dtype, self.device, self.capacity, self.passes = dtype, device, layout.capacity, layout.passes
        self.floating = layout.floating
        self.types = types = precision.load(dtype, "types")
        self.nl, self.nv, self.ng = len(layout.ints["parent"]), len(layout.reals["limit_low"]), len(layout.geoms)
        self._fields: dict[str, Any] = {
            "nl": self.nl,
            "nv": self.nv,
            "ng": self.ng,
            "n_probes": len(layout.ints["probe_geom"]),
        }
        self._fields["passes"] = layout.passes
        for name, values in layout.ints.items():
            self._fields[name] = wp.array(values, dtype=int, device=device)
        for name, values in layout.reals.items():
            kind = types.vec3 if name in ("axis", "hull_normal") else types.real
            self._fields[name] = wp.array(values, dtype=kind, device=device)
        for name, value in vars(constants).items():
            self._fields[name] = types.real(value)

    def model(self) -> Any:
        """A new Model with the structure filled in."""
        model = self.types.Model()
        for name, value in self._fields.items():
            setattr(model, name, value)
        return model


class Workspace:
    """Structs for one launch at a time over `size` environments: structure and scratch are set once, parameters at each
    launch. With `reverse` it has room for gradients."""

    def __init__(self, structure: Structure, size: int, reverse: bool) -> None:
        self.structure, self.types, self.size, self.reverse = structure, structure.types, size, reverse
        self.model, self.scratch = structure.model(), self.types.Scratch()
        self._places: dict[str, tuple] = {}  # where each parameter lies that the model points at, which keeps it alive
        self._fill_scratch(structure)

    def _fill_scratch(self, m: Structure) -> None:
        t = self.types
        real, vec3, mat33 = t.real, t.vec3, t.mat33
        remembered = m.capacity if m.passes else 0
        waiting, columns = (4 * m.capacity, m.nl * (1 + t.ROUNDS)) if m.floating else (0, m.nl)
        for names, width, dtype in (
            (_LINK_VECTORS, m.nl, vec3), (("R",), m.nl, mat33), (_DOF_VECTORS, m.nv, vec3),
            (_DOF_REALS, m.nv, real), (("gR",), m.ng, mat33), (("gp",), m.ng, vec3),
            (("cF", "cf", "cl"), remembered, vec3), (("cK",), remembered, mat33),
            (("wait",), waiting, vec3), (_WRENCH_VECTORS, columns, vec3), (_WRENCH_MATRICES, columns, mat33),
        ):  # fmt: skip
            for name in names:
                self._new(name, width, dtype, self.reverse)
        for names, width, dtype in (
            (_PLAIN_LINK_VECTORS, m.nl, vec3), (_PLAIN_LINK_MATRICES, m.nl, mat33), (_PLAIN_DOF_VECTORS, m.nv, vec3),
            (_PLAIN_DOF_REALS, m.nv, real), (("contact_point", "contact_probe"), m.capacity, int),
        ):  # fmt: skip
            for name in names:
                self._new(name, width, dtype, False)
        s = self.scratch
        s.n_contacts = wp.zeros(self.size, dtype=int, device=m.device)
        s.qdd_value = wp.array(ptr=s.qdd.ptr, shape=s.qdd.shape, dtype=real, device=m.device)  # without a gradient
        if self.reverse:
            s.qdd_grad, s.residual_grad = s.qdd.grad, s.residual.grad
        R = wp.to_torch(s.R, requires_grad=False)
        R[:, 0] = torch.eye(3, dtype=m.dtype, device=R.device)

    def _new(self, name: str, width: int, dtype: Any, gradient: bool) -> None:
        """An array of zeros for the scratch field `name`."""
        array = wp.zeros((self.size, width), dtype=dtype, device=self.structure.device, requires_grad=gradient)
        setattr(self.scratch, name, array)

    def bind(self, leaves: dict[str, Tensor], gradients: dict[str, Tensor], part: slice) -> None:
        """Take the parameters (E, ·), and where their gradients go, of the environments in `part`. What lies where it lay is
        left alone: a Warp array takes longer to make than a step."""
        for name, kind in (*LEAVES.items(), ("bound", "real")):
            leaf, grad = leaves[name], gradients.get(name)
            place = (leaf.data_ptr(), part.start, part.stop, grad is None, 0 if grad is None else grad.data_ptr())
            if self._places.get(name) != place:
                self._places[name] = place
                setattr(self.model, name, as_warp(leaf[part], getattr(self.types, kind), None if grad is None else grad[part]))


class Launcher:
    """Runs the rollout kernel over a batch. Workspaces are taken from a pool and put back after each launch, so launches
    from several threads never share one."""

    def __init__(self, layout: Layout, constants: Constants, threads: int | None, device: str) -> None:
        self.layout, self.constants, self.device = layout, constants, device
        self.part = "floating" if layout.floating else "rollout"  # the kernel's module
        on_cpu = not wp.get_device(device).is_cuda
        self.threads = launches.threads(threads) if on_cpu else 1
        self._structures: dict[torch.dtype, Structure] = {}
        self._pool: dict[tuple, list[Workspace]] = {}
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(self.threads, "physics") if self.threads > 1 else None

    def load_ahead(self, dtype: torch.dtype) -> None:
        """Begin to load the kernels for numbers of `dtype`."""
        parts = (self.part, "rollout"), ("kinematics", "forward_kinematics")
        load_ahead([getattr(precision.load(dtype, module), name) for module, name in parts], self.device)

    def structure(self, dtype: torch.dtype) -> Structure:
        """The scene's structure in numbers of `dtype`."""
        with self._lock:
            if dtype not in self._structures:
                self._structures[dtype] = Structure(self.layout, self.constants, dtype, self.device)
            return self._structures[dtype]

    def take(self, size: int, reverse: bool, dtype: torch.dtype) -> Workspace:
        """A workspace that nobody else holds."""
        structure = self.structure(dtype)
        with self._lock:
            free = self._pool.setdefault((size, reverse, dtype), [])
            if free:
                return free.pop()
        return Workspace(structure, size, reverse)

    def put_back(self, work: Workspace) -> None:
        """Hand a workspace back; a few of each size are kept."""
        with self._lock:
            free = self._pool.setdefault((work.size, work.reverse, work.structure.dtype), [])
            if len(free) < 2 * self.threads:
                free.append(work)
            if len(self._pool) > 16:  # batch sizes come and go
                self._pool.pop(next(iter(self._pool)))

    def parts(self, size: int, steps: int) -> list[slice]:
        """Shares of a batch, one a thread."""
        count = max(1, min(self.threads, size, size * steps // _SMALLEST_PART))
        edges = [size * i // count for i in range(count + 1)]
        return [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]

    def for_parts(self, job: Callable[[slice], None], size: int, steps: int) -> None:
        """Run a job on every share of the batch, on several threads; Warp's kernels run without the interpreter lock."""
        first, *rest = self.parts(size, steps)
        waiting = [self._executor.submit(job, part) for part in rest] if self._executor else []
        try:
            job(first)
        finally:
            for future in waiting:
                future.result()

    def accelerations(self, q: Tensor, qd: Tensor, ref: Tensor, tau: Tensor, leaves: dict[str, Tensor]) -> Tensor:
        """q̈ (E, nv) at q (E, nq), qd (E, nv) under ref, tau (1, E, nv)."""
        work = self.take(q.shape[0], False, q.dtype)
        real = work.types.real
        kernel = precision.load(q.dtype, self.part).rollout
        load(kernel, self.device)
        arrays = [torch.stack([q, q]), torch.stack([qd, qd]), ref, tau]
        work.bind(leaves, {}, slice(None))
        inputs = [work.model, work.scratch, *(as_warp(a, real) for a in arrays), 1, 1, 0]
        with on_stream(q.device):
            wp.launch(kernel, work.size, inputs=inputs, device=self.device)
            out = wp.to_torch(work.scratch.qdd, requires_grad=False).clone()
        self.put_back(work)
        return out

    def rollout(self, arrays: tuple[Tensor, ...], leaves: dict[str, Tensor], substeps: int, gradients: Any = None) -> None:
        """Fill q, qd (steps + 1, E, ·) in arrays = (q, qd, ref, tau) from their first row; with gradients = (those of
        the arrays, those of the leaves), go back instead and add to them."""
        q = arrays[0]
        steps, size = q.shape[0] - 1, q.shape[1]
        kernel = precision.load(q.dtype, self.part).rollout
        load(kernel, self.device)
        reverse = gradients is not None
        array_grads, leaf_grads = gradients if reverse else ((None,) * len(arrays), {})

        def job(part: slice) -> None:
            work = self.take(part.stop - part.start, reverse, q.dtype)
            work.bind(leaves, leaf_grads, part)
            cut = lambda x: None if x is None else x[:, part]  # noqa: E731
            bound = [as_warp(x[:, part], work.types.real, cut(g)) for x, g in zip(arrays, array_grads, strict=True)]
            inputs = [work.model, work.scratch, *bound, steps, substeps, int(reverse)]
            adjoints = [work.types.Model(), work.types.Scratch(), *(x.grad for x in bound), 0, 0, 0] if reverse else []
            wp.launch(kernel, work.size, inputs=inputs, adj_inputs=adjoints, adjoint=reverse, device=self.device)
            self.put_back(work)

        with on_stream(q.device):
            self.for_parts(job, size, steps)
