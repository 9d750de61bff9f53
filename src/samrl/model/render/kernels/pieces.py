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
def move_with_face(
    surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float, n: wp.vec2, pull: float, g_h: wp.array2d(dtype=wp.vec3)
):
    """An edge's point moves on the screen by the sum of w_k (dh_k.xy - (x, y) dh_k.z)."""
    v = surface[0].faces[f]
    w = weights(frame[0].setup[b, f], x, y)
    along = wp.vec3(n[0], n[1], -(n[0] * x + n[1] * y))
    for k in range(3):
        wp.atomic_add(g_h, b, v[k], (pull * w[k]) * along)


@wp.func
def move_with_depth(
    surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float, pull: float, g_h: wp.array2d(dtype=wp.vec3)
):
    """Where a curve is given by faces' 1/z, its normal speed is that of the 1/z over their slope."""
    v = surface[0].faces[f]
    t = frame[0].setup[b, f]
    w = weights(t, x, y)
    q = shared_vector(t, wp.vec3(pull, pull, pull))
    for k in range(3):
        add_vertex(g_h, b, v[k], -w[k] * q, t)


@wp.kernel
def pull_back_pieces(
    first: int, surface: Surfaces, frame: Frames, wanted: wp.array(dtype=int), stride: int,
    g_color: wp.array3d(dtype=wp.vec3), g_depth: wp.array3d(dtype=float), g_masks: wp.array4d(dtype=float),
    has_color: int, has_depth: int, mask_count: int, g_h: wp.array2d(dtype=wp.vec3), g_shade: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """(batch, stride): every stride-th piece, from the thread's own on."""
    i, j = wp.tid()
    b = first + i
    for n in range(j, frame[0].used[b, 1], stride):
        piece = frame[0].pieces[b, n]
        inner = piece[0]
        outer = piece[1]
        want = wanted[inner]
        want_outer = 0
        if outer >= 0:
            want_outer = wanted[outer]
        if (want | want_outer) != 0:
            line = frame[0].lines[b, n]
            x = 0.5 * (line[0] + line[2])
            y = 0.5 * (line[1] + line[3])
            row = piece[3] / frame[0].lists.shape[2]
            column = piece[3] - row * frame[0].lists.shape[2]
            jump = float(0.0)
            g = wp.vec3()
            g_iz = float(0.0)
            if has_color != 0:
                g = g_color[b, row, column]
                jump = wp.dot(g, color_of(surface, frame, b, inner, x, y) - color_of(surface, frame, b, outer, x, y))
            if has_depth != 0:
                g_iz = g_depth[b, row, column]
                jump += g_iz * inverse_depth_jump(surface, frame, b, inner, outer, x, y)
            bits = mask_bits(surface, inner)
            outer_bits = mask_bits(surface, outer)
            if bits != outer_bits:
                for m in range(mask_count):
                    jump += g_masks[b, m, row, column] * float(((bits >> m) & 1) - ((outer_bits >> m) & 1))
            pull = jump * wp.length(wp.vec2(line[2] - line[0], line[3] - line[1]))
            if piece[2] == CURVE or piece[2] == NEAR:
                slope = inverse_depth_slope(frame[0].setup[b, inner])
                if piece[2] == CURVE:
                    pull = pull / wp.length(slope - inverse_depth_slope(frame[0].setup[b, outer]))
                    if (want_outer & VERTICES) != 0:
                        move_with_depth(surface, frame, b, outer, x, y, -pull, g_h)
                else:
                    pull = -pull / wp.length(slope)
                if (want & VERTICES) != 0:
                    move_with_depth(surface, frame, b, inner, x, y, pull, g_h)
            elif (want & VERTICES) != 0:
                if piece[2] == BORDER:
                    pull *= 0.5
                move_with_face(surface, frame, b, inner, x, y, outwards(line), pull, g_h)
            if has_color != 0 or has_depth != 0:
                area = signed_area(surface, frame, b, piece, line)
                if piece[2] == BORDER:
                    area *= 0.5
                if outer >= 0:
                    if frame[0].facing[b, outer] == DEGENERATE:
                        g_iz = 0.0
                if want != 0:
                    pull_back_face(surface, frame, b, inner, want, x, y, area * g, area * g_iz, g_h, g_shade)
                if want_outer != 0:
                    pull_back_face(surface, frame, b, outer, want_outer, x, y, -area * g, -area * g_iz, g_h, g_shade)
