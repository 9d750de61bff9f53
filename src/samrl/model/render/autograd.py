"""The one place where autograd and the kernels meet: one function that draws, from what is drawn: solids or a free surface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from samrl.core.errors import check_finite
from samrl.core.launches import Job
from samrl.model.render.image import DeviceMesh, Image, Images, Lease, Size
from samrl.model.render.kernels import geometry


class Subject(Protocol):
    """What is drawn: how its inputs, float32, (1 or batch, …), become lit, projected vertices.

    Attributes:
        INPUTS: names and kernel types of the inputs that kernels take as arguments; others may follow.
    """

    INPUTS: ClassVar[dict[str, Any]]
    mesh: DeviceMesh
    images: Images

    def prepare(self, image: Image, inputs: Sequence[Tensor]) -> None:
        """What is to be done before the kernels of `project`."""

    def project(self, image: Image) -> list[Job]:
        """Fill the image's h, and its shade if `prepare` has not."""

    def wanted(self, needs: Sequence[bool]) -> tuple:
        """`DeviceMesh.wanted` for inputs that need a gradient."""

    def pull_back(self, image: Image, needs: Sequence[bool], lit: bool) -> list[Job]:
        """Adjoint of `project`; `lit`: the image's colours had a gradient."""

    def prepare_backward(self, image: Image, inputs: Sequence[Tensor], grads: list[Tensor], needs: Sequence[bool]) -> None:
        """Point the image at inputs, and at gradients (zeros, as far as they are needed), that are not slots."""

    def finish(self, image: Image, grads: list[Tensor]) -> None:
        """Adjoint of `prepare`."""


class Draw(torch.autograd.Function):
    """A subject's inputs -> image: colour, depth, masks, links."""

    @staticmethod
    def forward(ctx: Any, subject: Subject, size: Size, *inputs: Tensor) -> Any:
        shapes = [x.shape for x in inputs]
        device = inputs[0].device
        key = (size, *shapes, torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0)
        make = lambda: Image(subject.mesh, size, list(zip(shapes, subject.INPUTS.values(), strict=False)))  # noqa: E731
        ctx.lease = Lease(subject.images, key, make)
        image = ctx.lease.image
        subject.prepare(image, inputs)
        out = image.draw(subject.project, dict(zip(subject.INPUTS, inputs, strict=False)))
        ctx.save_for_backward(*inputs)
        ctx.subject = subject
        ctx.mark_non_differentiable(out[3])
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        image, subject, inputs = ctx.lease.image, ctx.subject, ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        out = _zeros(image.batch, inputs, [need or i < len(image.g_inputs) for i, need in enumerate(needs)])
        with image.lock:
            for given, slot, x, g in zip(image.inputs, image.g_inputs, inputs, out, strict=False):
                given.bind(x)
                slot.bind(g)
            subject.prepare_backward(image, inputs, out, needs)
            lit = grads[0] is not None
            image.pull_back(grads[:3], subject.wanted(needs), needs, lambda image: subject.pull_back(image, needs, lit))
            subject.finish(image, out)
        return None, None, *_fold(out, inputs, needs)


def _zeros(batch: int, inputs: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor]:
    """Zeros (batch, …) for the gradient of each input, or (0, …) where it is not wanted, all in one block."""
    batches = [batch if want else 0 for want in wanted]
    sizes = [count * x[0].numel() for count, x in zip(batches, inputs, strict=True)]
    flat = torch.zeros(sum(sizes), device=inputs[0].device).split(sizes)
    return [g.view(count, *x.shape[1:]) for g, count, x in zip(flat, batches, inputs, strict=True)]


def _fold(grads: list[Tensor], inputs: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
    """Gradients (batch, …) -> those of the inputs, summed where an input is shared by the batch."""
    shared = lambda g, x: g.sum(0, keepdim=True) if len(g) != len(x) else g  # noqa: E731
    return [shared(g, x) if need else None for g, x, need in zip(grads, inputs, needs, strict=True)]


class SolidSubject:
    """Poses, camera and parameters of a scene's solids."""

    INPUTS: ClassVar[dict[str, Any]] = {
        "X_WL": wp.mat44, "X_WC": wp.mat44, "K": wp.vec4, "geom_p": wp.vec3, "geom_R": wp.mat33, "geom_size": geometry.Vec6,
        "color": wp.vec3, "light_direction": wp.vec3, "ambient": wp.vec3, "diffuse": wp.vec3,
    }  # fmt: skip

    def __init__(self, mesh: DeviceMesh, solids: Any) -> None:
        self.mesh, self.solids, self.images = mesh, solids, Images()

    def prepare(self, image: Image, inputs: Sequence[Tensor]) -> None:
        pass

    def project(self, image: Image) -> list[Job]:
        X_WL, X_WC, K, p, R, sizes, color, *light = (slot.array for slot in image.inputs)
        h, shade, _, _ = image.arrays
        return [
            (geometry.project_solids, image.h.shape[1], (self.solids, X_WL, X_WC, K, p, R, sizes, h)),
            (geometry.light_solids, image.shade.shape[1], (self.solids, X_WL, R, color, *light, shade)),
        ]

    def wanted(self, needs: Sequence[bool]) -> tuple:
        return self.mesh.wanted(any(needs[1:6]), needs[0], any(needs[6:]) or needs[4], needs[0])

    def pull_back(self, image: Image, needs: Sequence[bool], lit: bool) -> list[Job]:
        X_WL, X_WC, K, p, R, sizes, color, *light = (slot.array for slot in image.inputs)
        g_X_WL, g_X_WC, g_K, g_p, g_R, g_sizes, g_color, *g_light = (slot.array for slot in image.g_inputs)
        _, _, g_h, g_shade = image.arrays
        parts = len(self.mesh.part_link)
        poses = (self.solids, int(needs[5]), X_WL, X_WC, K, p, R, sizes, g_h, g_X_WL, g_X_WC, g_K, g_p, g_R, g_sizes)
        shades = (self.solids, X_WL, R, color, *light, g_shade, g_X_WL, g_R, g_color, *g_light)
        jobs: list[Job] = [(geometry.pull_back_vertices, parts, poses)]
        return jobs + ([(geometry.pull_back_shade, parts, shades)] if lit else [])

    def prepare_backward(self, image: Image, inputs: Sequence[Tensor], grads: list[Tensor], needs: Sequence[bool]) -> None:
        pass

    def finish(self, image: Image, grads: list[Tensor]) -> None:
        pass


class FreeSubject:
    """Vertices in the world, a colour at each corner, and a camera."""

    INPUTS: ClassVar[dict[str, Any]] = {"vertices": wp.vec3, "colors": wp.vec3, "X_WC": wp.mat44, "K": wp.vec4}

    def __init__(self, mesh: DeviceMesh) -> None:
        self.mesh, self.images = mesh, Images()

    def prepare(self, image: Image, inputs: Sequence[Tensor]) -> None:
        image.shade.copy_(inputs[1].expand_as(image.shade))

    def project(self, image: Image) -> list[Job]:
        p_W, _, X, K = (slot.array for slot in image.inputs)
        return [(geometry.project_points, image.h.shape[1], (p_W, X, K, image.arrays[0]))]

    def wanted(self, needs: Sequence[bool]) -> tuple:
        return self.mesh.wanted(needs[0] or any(needs[2:4]), False, needs[1], False)

    def pull_back(self, image: Image, needs: Sequence[bool], lit: bool) -> list[Job]:
        p_W, _, X, K = (slot.array for slot in image.inputs)
        g_p, _, g_X, g_K = (slot.array for slot in image.g_inputs)
        return [(geometry.pull_back_points, image.h.shape[1], (p_W, X, K, image.arrays[2], g_p, g_X, g_K))]

    def prepare_backward(self, image: Image, inputs: Sequence[Tensor], grads: list[Tensor], needs: Sequence[bool]) -> None:
        pass

    def finish(self, image: Image, grads: list[Tensor]) -> None:
        grads[1].copy_(image.g_shade)


class TexturedSubject(FreeSubject):
    """A free surface with a texture (1 or batch, height, width, 3), the fifth input, which kernels find in the image."""

    def prepare(self, image: Image, inputs: Sequence[Tensor]) -> None:
        check_finite("texture", inputs[4])  # the others go into what is projected and lit, which is checked
        super().prepare(image, inputs)
        image.frames.set(texture_height=inputs[4].shape[1], texture_width=inputs[4].shape[2])
        image.frames.point(texture=inputs[4])

    def wanted(self, needs: Sequence[bool]) -> tuple:
        return self.mesh.wanted(needs[0] or any(needs[2:4]), False, needs[1] or needs[4], False)

    def prepare_backward(self, image: Image, inputs: Sequence[Tensor], grads: list[Tensor], needs: Sequence[bool]) -> None:
        image.frames.point(texture=inputs[4], g_texture=grads[4] if needs[4] else None)
