"""Physics as functions that torch can differentiate. Each call owns its trajectory, so that outstanding calls may be gone
back through in any order, from any thread."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from samrl.core.launches import load, on_stream
from samrl.model.physics import precision
from samrl.model.physics.launch import LEAVES, Launcher, Structure, as_warp

_FIRST_LEAF = 7  # inputs of Rollout.forward before the leaves


class Rollout(torch.autograd.Function):
    """(q, qd, ref, tau, leaves) -> q and qd at the end of each control period."""

    @staticmethod
    def forward(
        ctx: Any, launcher: Launcher, substeps: int, q0: Tensor, qd0: Tensor, ref: Tensor, tau: Tensor, bound: Tensor,
        *leaves: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """q0 (E, nq), qd0 (E, nv), ref and tau (T, E, nv), leaves (E, ·) in the order of LEAVES."""
        steps = ref.shape[0] * substeps
        q, qd = (x.new_empty(steps + 1, *x.shape) for x in (q0, qd0))
        q[0], qd[0] = q0, qd0
        named = dict(zip(LEAVES, leaves, strict=True)) | {"bound": bound}
        launcher.rollout((q, qd, ref, tau), named, substeps)
        ctx.save_for_backward(ref, tau, bound, *leaves)
        ctx.launcher, ctx.substeps, ctx.history = launcher, substeps, (q, qd)
        return q[substeps::substeps].clone(), qd[substeps::substeps].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_q: Tensor, grad_qd: Tensor) -> tuple:
        ref, tau, bound, *leaves = ctx.saved_tensors
        gq, gqd = (torch.zeros_like(x) for x in ctx.history)
        gq[ctx.substeps :: ctx.substeps], gqd[ctx.substeps :: ctx.substeps] = grad_q, grad_qd
        gref, gtau = torch.zeros_like(ref), torch.zeros_like(tau)
        needed = ctx.needs_input_grad[_FIRST_LEAF:]
        grads = {n: torch.zeros_like(x) for n, x, need in zip(LEAVES, leaves, needed, strict=True) if need}
        named = dict(zip(LEAVES, leaves, strict=True)) | {"bound": bound}
        ctx.launcher.rollout((*ctx.history, ref, tau), named, ctx.substeps, ((gq, gqd, gref, gtau), grads))
        return None, None, gq[0], gqd[0], gref, gtau, None, *(grads.get(n) for n in LEAVES)


class ForwardKinematics(torch.autograd.Function):
    """(q, link_p, link_R, joint_p) -> link poses."""

    @staticmethod
    def forward(
        ctx: Any, launcher: Launcher, q: Tensor, link_p: Tensor, link_R: Tensor, joint_p: Tensor
    ) -> tuple[Tensor, Tensor]:
        """q (E, nq), the others (E, nl, ·) -> rotations (E, nl, 3, 3) and origins (E, nl, 3) [m] in the world."""
        ctx.save_for_backward(q, link_p, link_R, joint_p)
        ctx.launcher = launcher
        R, p = torch.zeros_like(link_R), torch.zeros_like(link_p)
        _kinematics(launcher, (q, link_p, link_R, joint_p), (R, p), None)
        return R, p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_R: Tensor, grad_p: Tensor) -> tuple:
        inputs = ctx.saved_tensors
        out = (torch.zeros_like(inputs[2]), torch.zeros_like(inputs[1]))
        grads = tuple(torch.zeros_like(x) for x in inputs)
        # the kernel uses up the gradients of its outputs: hand it copies
        seeds = tuple(g.clone(memory_format=torch.contiguous_format) for g in (grad_R, grad_p))
        _kinematics(ctx.launcher, inputs, out, (grads, seeds))
        return None, *grads


def _kinematics(launcher: Launcher, inputs: tuple, outputs: tuple, gradients: Any) -> None:
    """Launch the kernel forward, or back where gradients = (of the inputs, of the outputs) are given."""
    q = inputs[0]
    kernel = precision.load(q.dtype, "kinematics").forward_kinematics
    load(kernel, launcher.device)
    structure = launcher.structure(q.dtype)
    outputs[0][:, 0] = torch.eye(3, dtype=q.dtype, device=q.device)
    arguments = _kinematics_arguments(structure, inputs, outputs, gradients)
    adjoints = [structure.types.Model(), structure.types.Scratch(), arguments[2].grad] if gradients else []
    with on_stream(q.device):
        wp.launch(
            kernel, q.shape[0], inputs=arguments, adj_inputs=adjoints, adjoint=gradients is not None,
            device=launcher.device,
        )  # fmt: skip


def _kinematics_arguments(structure: Structure, inputs: tuple, outputs: tuple, gradients: Any) -> list:
    """The kernel's arguments: (Model, Scratch, q)."""
    t, size = structure.types, inputs[0].shape[0]
    grads, seeds = gradients or ((None,) * 4, (None,) * 2)
    model, scratch = structure.model(), t.Scratch()
    model.link_p, model.link_R, model.joint_p = (
        as_warp(x, kind, g) for x, kind, g in zip(inputs[1:], (t.vec3, t.mat33, t.vec3), grads[1:], strict=True)
    )
    scratch.R, scratch.p = as_warp(outputs[0], t.mat33, seeds[0]), as_warp(outputs[1], t.vec3, seeds[1])
    for name, width in (("arm", structure.nl), ("Sw", structure.nv), ("Sv", structure.nv)):
        zeros = wp.zeros((size, width), dtype=t.vec3, device=structure.device, requires_grad=gradients is not None)
        setattr(scratch, name, zeros)
    return [model, scratch, as_warp(inputs[0][None], t.real, None if grads[0] is None else grads[0][None])]
