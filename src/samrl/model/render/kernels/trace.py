"""Warp kernels that find what is seen of each edge, and of each curve along which two faces pass through each other, exactly:
cell by cell, against all faces that meet the cell. Each piece found is kept for the gradient, and puts the image right: the
cell's centre alone has told what the cell shows so far.

On a line across the image, a face's weights and 1/z are linear. What a face hides of a line is therefore an interval, cut out
by four comparisons. What hides an edge is looked up beside it, on the inner side, where it is still its face's; what is
behind it, on the outer side. So an edge sunk into another face by a hair is either seen or replaced by the curve, never both.
"""

# mypy: ignore-errors
# ruff: noqa: UP018, RUF046, SIM109 - Warp: int(0) declares a variable that a loop may change; no `in`, no nested `and`

import warp as wp

from samrl.model.render.kernels.edges import edge_line, edge_sides, first_stride, outwards, signed_area, stride
from samrl.model.render.kernels.shading import color_of, inverse_depth_of
from samrl.model.render.kernels.types import (
    BORDER,
    CLIPPED,
    CURVE,
    EMPTY,
    INSIDE,
    NEAR,
    OUTLINE,
    OUTSIDE,
    SEAM,
    Frame,
    Setup,
    Surface,
    inverse_depth,
    inverse_depth_slope,
    mask_bits,
    weights,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})

SHORT = wp.constant(2.0e-4)  # of a line in a cell: less does not count
ROUNDS = wp.constant(32)  # pieces that a line in a cell falls into, at most
ITSELF = wp.constant(1.00005)  # a part's faces hide one another if nearer by this factor: beside a sliver is its neighbour [1]
TOUCHING = wp.constant(2.0e-4)  # two surfaces whose 1/z differ by less are one [1]


@wp.func
def cut(span: wp.vec2, at_0: float, at_1: float) -> wp.vec2:
    """The part of a parameter interval in which a linear function, given at 0 and 1, is positive; empty if its ends cross."""
    if at_0 > 0.0 and at_1 > 0.0:
        return span
    if at_0 <= 0.0 and at_1 <= 0.0:
        return wp.vec2(1.0, 0.0)
    t = at_0 / (at_0 - at_1)
    if at_1 > 0.0:
        return wp.vec2(wp.max(span[0], t), span[1])
    return wp.vec2(span[0], wp.min(span[1], t))


@wp.func
def cover(frame: Frame, b: int, f: int, line: wp.vec4, iz: wp.vec2) -> wp.vec2:
    """The parameters along a line at which a face lies over it, and nearer than `iz`, the line's 1/z at its ends."""
    t = frame.setup[b, f]
    w = weights(t, line[0], line[1])
    v = weights(t, line[2], line[3])
    w_sum = w[0] + w[1] + w[2]
    v_sum = v[0] + v[1] + v[2]
    span = cut(wp.vec2(0.0, 1.0), w_sum - iz[0], v_sum - iz[1])
    if span[0] >= span[1]:
        return span
    span = cut(cut(cut(span, w[0], v[0]), w[1], v[1]), w[2], v[2])
    if (frame.facing[b, f] & CLIPPED) != 0:
        span = cut(span, 1.0 / frame.near - w_sum, 1.0 / frame.near - v_sum)
    return span


@wp.func
def along(line: wp.vec4, t: float) -> wp.vec2:
    return wp.vec2(line[0] + t * (line[2] - line[0]), line[1] + t * (line[3] - line[1]))


@wp.func
def depths_along(t: Setup, line: wp.vec4) -> wp.vec2:
    return wp.vec2(inverse_depth(t, line[0], line[1]), inverse_depth(t, line[2], line[3]))


@wp.func
def passed_over(surface: Surface, f: int, one: int, other: int) -> bool:
    """Whether a face is one of the two that make a line, or of the convex solid of either: it does not hide that line."""
    if f == one or f == other:
        return True
    solid = surface.convex[f]
    if solid < 0:
        return False
    if solid == surface.convex[one]:
        return True
    if other < 0:
        return False
    return solid == surface.convex[other]


@wp.func
def hidden_until(
    surface: Surface, frame: Frame, b: int, node: int, line: wp.vec4, iz: wp.vec2, one: int, other: int, start: float
) -> wp.vec2:
    """(until where a line is hidden from `start` on, where it is hidden next). If the first is `start` itself, the line is seen
    from there to the second."""
    end = start
    then = float(1.0)
    n = node
    while n > EMPTY:
        entry = frame.nodes[b, n - EMPTY - 1]
        n = entry[1]
        if not passed_over(surface, entry[0], one, other):
            limit = iz
            if surface.part[entry[0]] == surface.part[one]:
                limit = ITSELF * iz
            span = cover(frame, b, entry[0], line, limit)
            if span[0] < span[1]:
                if span[0] <= start + SHORT:
                    end = wp.max(end, span[1])
                else:
                    then = wp.min(then, span[0])
    return wp.vec2(end, then)


@wp.func
def seen_at(surface: Surface, frame: Frame, b: int, node: int, p: wp.vec2, but: int) -> int:
    """The nearest face at a point; `but` and the convex solid it belongs to are not looked at."""
    best = int(-1)
    best_iz = float(0.0)
    n = node
    while n > EMPTY:
        entry = frame.nodes[b, n - EMPTY - 1]
        n = entry[1]
        f = entry[0]
        if not passed_over(surface, f, but, -1):
            w = weights(frame.setup[b, f], p[0], p[1])
            iz = w[0] + w[1] + w[2]
            if iz > best_iz and wp.min(w) >= 0.0 and iz * frame.near < 1.0:
                best = f
                best_iz = iz
    return best


@wp.func
def seen_until(
    surface: Surface, frame: Frame, b: int, node: int, line: wp.vec4, outer: int, but: int, start: float, end: float
) -> float:
    """Until where, from `start` on, the face `outer` stays what is seen along a line; at most `end`."""
    iz = wp.vec2(0.0, 0.0)
    until = end
    if outer >= 0:
        iz = depths_along(frame.setup[b, outer], line)
        span = cover(frame, b, outer, line, wp.vec2(0.0, 0.0))
        if span[1] > start + SHORT:
            until = wp.min(until, span[1])
    n = node
    while n > EMPTY:
        entry = frame.nodes[b, n - EMPTY - 1]
        n = entry[1]
        if entry[0] != outer and not passed_over(surface, entry[0], but, -1):
            span = cover(frame, b, entry[0], line, iz)
            if span[0] < span[1] and span[0] > start + SHORT:
                until = wp.min(until, span[0])
    return until


@wp.func
def add_piece(
    surface: Surface, frame: Frame, b: int, y: int, x: int, inner: int, outer: int, kind: int, line: wp.vec4,
    color: wp.array3d(dtype=wp.vec3), depth: wp.array3d(dtype=float), masks: wp.array4d(dtype=float),
):  # fmt: skip
    """Keeps a piece, and adds its part to the image."""
    n = wp.atomic_add(frame.used, b, 1, 1)
    if n >= frame.pieces.shape[1]:
        return
    piece = wp.vec4i(inner, outer, kind, y * frame.lists.shape[2] + x)
    area = signed_area(surface, frame, b, piece, line) / float(frame.S * frame.S)
    mx = 0.5 * (line[0] + line[2])
    my = 0.5 * (line[1] + line[3])
    kept = kind
    if kind == BORDER:
        kept = OUTLINE
        if outer >= 0:
            iz = inverse_depth(frame.setup[b, inner], mx, my)
            if wp.abs(inverse_depth(frame.setup[b, outer], mx, my) - iz) < TOUCHING * iz:
                kept = BORDER  # two borders that meet share the jump
                area *= 0.5
    frame.pieces[b, n] = wp.vec4i(inner, outer, kept, piece[3])
    frame.lines[b, n] = line
    jump = color_of(surface, frame, b, inner, mx, my) - color_of(surface, frame, b, outer, mx, my)
    py = y / frame.S
    px = x / frame.S
    wp.atomic_add(color, b, py, px, area * jump)
    if frame.mean_depth != 0:
        iz_jump = inverse_depth_of(surface, frame, b, inner, mx, my) - inverse_depth_of(surface, frame, b, outer, mx, my)
        wp.atomic_add(depth, b, py, px, area * iz_jump)
    bits = mask_bits(surface, inner)
    outer_bits = mask_bits(surface, outer)
    if bits != outer_bits:
        for m in range(masks.shape[1]):
            wp.atomic_add(masks, b, m, py, px, area * float(((bits >> m) & 1) - ((outer_bits >> m) & 1)))


@wp.func
def add_seen(
    surface: Surface, frame: Frame, b: int, y: int, x: int, inner: int, outer: int, kind: int, line: wp.vec4,
    color: wp.array3d(dtype=wp.vec3), depth: wp.array3d(dtype=float), masks: wp.array4d(dtype=float),
):  # fmt: skip
    """Adds what is seen of a line in one cell, piece by piece; `outer` is what lies behind it if the kind tells, else it is
    looked up."""
    node = frame.lists[b, y, x]
    n = outwards(line)
    aside = wp.vec4(n[0], n[1], n[0], n[1])
    inside = line
    outside = line + OUTSIDE * aside
    if kind == OUTLINE or kind == BORDER or kind == SEAM:
        inside = line - INSIDE * aside
    iz = depths_along(frame.setup[b, inner], inside)
    looked_up = kind == OUTLINE or kind == BORDER or kind == NEAR
    behind = outer
    start = float(0.0)
    rounds = int(0)
    while start < 1.0 - SHORT and rounds < ROUNDS:
        rounds += 1
        seen = hidden_until(surface, frame, b, node, inside, iz, inner, outer, start)
        if seen[0] > start + SHORT:
            start = seen[0]
        else:
            end = seen[1]
            if looked_up:
                behind = seen_at(surface, frame, b, node, along(outside, start + 2.0 * SHORT), inner)
                end = seen_until(surface, frame, b, node, outside, behind, inner, start, end)
            p = along(line, start)
            q = along(line, end)
            add_piece(surface, frame, b, y, x, inner, behind, kind, wp.vec4(p[0], p[1], q[0], q[1]), color, depth, masks)
            start = end


@wp.kernel
def trace_edges(
    first: int, surface: Surface, frame: Frame,
    color: wp.array3d(dtype=wp.vec3), depth: wp.array3d(dtype=float), masks: wp.array4d(dtype=float),
):  # fmt: skip
    """(batch, E): what is seen of each edge at which colours may jump."""
    i, e = wp.tid()
    b = first + i
    sides = edge_sides(surface, frame, b, e)
    if sides[0] == 0:
        return
    line = edge_line(surface, frame, b, e, sides[3])
    if line[0] == line[2] and line[1] == line[3]:
        return
    steps = first_stride(line)
    while steps[0] < 1.0:
        after = stride(line, steps)
        t = wp.min(after[0], 1.0)
        p = along(line, steps[0])
        q = along(line, t)
        m = 0.5 * (p + q)
        x = wp.clamp(int(m[0]), 0, frame.lists.shape[2] - 1)
        y = wp.clamp(int(m[1]), 0, frame.lists.shape[1] - 1)
        piece = wp.vec4(p[0], p[1], q[0], q[1])
        if wp.length_sq(q - p) > 1.0e-9:
            add_seen(surface, frame, b, y, x, sides[1], sides[2], sides[0], piece, color, depth, masks)
        steps = after


@wp.func
def within(frame: Frame, b: int, f: int, line: wp.vec4) -> wp.vec2:
    """The parameters at which a line lies on a face, INSIDE away from its edges."""
    t = frame.setup[b, f]
    w = weights(t, line[0], line[1])
    v = weights(t, line[2], line[3])
    span = wp.vec2(0.0, 1.0)
    for k in range(3):
        margin = INSIDE * wp.sqrt(t[3 * k] * t[3 * k] + t[3 * k + 1] * t[3 * k + 1])
        span = cut(span, w[k] - margin, v[k] - margin)
    return span


@wp.func
def crossing(slope: wp.vec2, here: float, cx: float, cy: float) -> wp.vec4:
    """The line in a cell where a function, `here` at the cell's centre, is zero, its positive side to the left (inner); all
    zero if it does not meet the cell."""
    size = wp.length(slope)
    if wp.abs(here) >= 0.5 * (wp.abs(slope[0]) + wp.abs(slope[1])):
        return wp.vec4()
    n = -slope / size  # outwards: to where the function is negative
    foot = n * (here / size)
    line = wp.vec4(foot[0] - n[1], foot[1] + n[0], foot[0] + n[1], foot[1] - n[0])
    span = wp.vec2(0.0, 1.0)
    span = cut(cut(span, line[0] + 0.5, line[2] + 0.5), 0.5 - line[0], 0.5 - line[2])
    span = cut(cut(span, line[1] + 0.5, line[3] + 0.5), 0.5 - line[1], 0.5 - line[3])
    if span[0] >= span[1]:
        return wp.vec4()
    p = along(line, span[0])
    q = along(line, span[1])
    return wp.vec4(p[0] + cx, p[1] + cy, q[0] + cx, q[1] + cy)


@wp.func
def cross_faces(
    surface: Surface, frame: Frame, b: int, y: int, x: int, f: int, other: int,
    color: wp.array3d(dtype=wp.vec3), depth: wp.array3d(dtype=float), masks: wp.array4d(dtype=float),
):  # fmt: skip
    """Adds the curve along which two faces of different parts pass through each other (other >= 0), or along which a face is
    cut off by the near distance (-1)."""
    cx = float(x) + 0.5
    cy = float(y) + 0.5
    t = frame.setup[b, f]
    slope = inverse_depth_slope(t)
    here = inverse_depth(t, cx, cy)
    kind = int(CURVE)
    if other >= 0:
        u = frame.setup[b, other]
        slope = slope - inverse_depth_slope(u)
        here = here - inverse_depth(u, cx, cy)
    else:
        kind = NEAR
        slope = -slope
        here = 1.0 / frame.near - here
    line = crossing(slope, here, cx, cy)
    if line[0] == line[2] and line[1] == line[3]:
        return
    span = within(frame, b, f, line)
    if other >= 0:
        beside = within(frame, b, other, line)
        span = wp.vec2(wp.max(span[0], beside[0]), wp.min(span[1], beside[1]))
    if span[0] + SHORT >= span[1]:
        return
    p = along(line, span[0])
    q = along(line, span[1])
    add_seen(surface, frame, b, y, x, f, other, kind, wp.vec4(p[0], p[1], q[0], q[1]), color, depth, masks)


@wp.kernel
def trace_curves(
    first: int, surface: Surface, frame: Frame,
    color: wp.array3d(dtype=wp.vec3), depth: wp.array3d(dtype=float), masks: wp.array4d(dtype=float),
):  # fmt: skip
    """(batch, H S): what is seen of the curves along which faces of different parts pass through each other."""
    i, y = wp.tid()
    b = first + i
    for x in range(frame.lists.shape[2]):
        n = frame.lists[b, y, x]
        while n > EMPTY:
            entry = frame.nodes[b, n - EMPTY - 1]
            n = entry[1]
            f = entry[0]
            if (frame.facing[b, f] & CLIPPED) != 0:
                cross_faces(surface, frame, b, y, x, f, -1, color, depth, masks)
            m = n
            while m > EMPTY:
                other = frame.nodes[b, m - EMPTY - 1]
                m = other[1]
                if surface.part[other[0]] != surface.part[f]:
                    cross_faces(surface, frame, b, y, x, f, other[0], color, depth, masks)
