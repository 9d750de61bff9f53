"""Warp kernel of the boundary part of the gradient: each piece of an edge or curve that is seen, by how it moves and by how much
colour, depth and masks jump across it; and of its part in the image, by the colours on its two sides."""

# mypy: ignore-errors
# ruff: noqa: UP018, SIM102 - Warp: int(0) declares a variable that a loop may change; no `in`, no nested `and`

import warp as wp

from samrl.model.render.kernels.edges import outwards, signed_area
from samrl.model.render.kernels.shading import add_vertex, color_of, inverse_depth_jump, pull_back_face, shared_vector
from samrl.model.render.kernels.types import (
    BORDER,
    CURVE,
    DEGENERATE,
    NEAR,
    VERTICES,
    Frames,
    Surfaces,
    inverse_depth_slope,
    mask_bits,
    weights,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func
def move_with_face(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float, n: wp.vec2, pull: float):
    """An edge's point moves on the screen by the sum of w_k (dh_k.xy - (x, y) dh_k.z)."""
    v = surface[0].faces[f]
    w = weights(frame[b].setup[f], x, y)
    along = wp.vec3(n[0], n[1], -(n[0] * x + n[1] * y))
    for k in range(3):
        wp.atomic_add(frame[b].g_h, v[k], (pull * w[k]) * along)


@wp.func
def move_with_depth(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float, pull: float):
    """Where a curve is given by faces' 1/z, its normal speed is that of the 1/z over their slope."""
    v = surface[0].faces[f]
    t = frame[b].setup[f]
    w = weights(t, x, y)
    q = shared_vector(t, wp.vec3(pull, pull, pull))
    for k in range(3):
        add_vertex(frame, b, v[k], -w[k] * q, t)


@wp.kernel
def pull_back_pieces(
    first: int, surface: Surfaces, frame: Frames, wanted: wp.array(dtype=int), stride: int,
    has_color: int, has_depth: int, has_masks: int,
):  # fmt: skip
    """(batch, stride): every stride-th piece, from the thread's own on."""
    i, j = wp.tid()
    b = first + i
    pixels = frame[b].width * frame[b].height
    for n in range(j, frame[b].used[1], stride):
        piece = frame[b].pieces[n]
        inner = piece[0]
        outer = piece[1]
        want = wanted[inner]
        want_outer = 0
        if outer >= 0:
            want_outer = wanted[outer]
        if (want | want_outer) != 0:
            line = frame[b].lines[n]
            x = 0.5 * (line[0] + line[2])
            y = 0.5 * (line[1] + line[3])
            jump = float(0.0)
            g = wp.vec3()
            g_iz = float(0.0)
            if has_color != 0:
                g = frame[b].g_color[piece[3]]
                jump = wp.dot(g, color_of(surface, frame, b, inner, x, y) - color_of(surface, frame, b, outer, x, y))
            if has_depth != 0:
                g_iz = frame[b].g_depth[piece[3]]
                jump += g_iz * inverse_depth_jump(surface, frame, b, inner, outer, x, y)
            bits = mask_bits(surface, inner)
            outer_bits = mask_bits(surface, outer)
            if bits != outer_bits and has_masks != 0:
                for m in range(frame[b].mask_count):
                    jump += frame[b].g_masks[m * pixels + piece[3]] * float(((bits >> m) & 1) - ((outer_bits >> m) & 1))
            pull = jump * wp.length(wp.vec2(line[2] - line[0], line[3] - line[1]))
            if piece[2] == CURVE or piece[2] == NEAR:
                slope = inverse_depth_slope(frame[b].setup[inner])
                if piece[2] == CURVE:
                    pull = pull / wp.length(slope - inverse_depth_slope(frame[b].setup[outer]))
                    if (want_outer & VERTICES) != 0:
                        move_with_depth(surface, frame, b, outer, x, y, -pull)
                else:
                    pull = -pull / wp.length(slope)
                if (want & VERTICES) != 0:
                    move_with_depth(surface, frame, b, inner, x, y, pull)
            elif (want & VERTICES) != 0:
                if piece[2] == BORDER:
                    pull *= 0.5
                move_with_face(surface, frame, b, inner, x, y, outwards(line), pull)
            if has_color != 0 or has_depth != 0:
                area = signed_area(surface, frame, b, piece, line)
                if piece[2] == BORDER:
                    area *= 0.5
                if outer >= 0:
                    if frame[b].facing[outer] == DEGENERATE:
                        g_iz = 0.0
                if want != 0:
                    pull_back_face(surface, frame, b, inner, want, x, y, area * g, area * g_iz)
                if want_outer != 0:
                    pull_back_face(surface, frame, b, outer, want_outer, x, y, -area * g, -area * g_iz)
