"""Warp kernels that find what is seen of each edge, and of each curve along which two faces pass through each other, exactly:
pixel by pixel, against all faces that meet it. Each piece found is kept for the gradient, and puts the image right: the
pixel's centre alone has told what it shows so far.

On a line across the image, a face's weights and 1/z are linear. What a face hides of a line is therefore an interval, cut out
by four comparisons. What hides an edge is looked up beside it, on the inner side, where it is still its face's; what is
behind it, on the outer side. So an edge sunk into another face by a hair is either seen or replaced by the curve, never both.
"""

# mypy: ignore-errors
# ruff: noqa: UP018, RUF046, SIM102, SIM109 - Warp: int(0) declares a variable that a loop may change; no `in`, no nested `and`

import warp as wp

from samrl.model.render.kernels.edges import first_stride, outwards, signed_area, stride, surely_hidden
from samrl.model.render.kernels.shading import color_of, inverse_depth_jump
from samrl.model.render.kernels.types import (
    BORDER,
    CLIPPED,
    CURVE,
    EMPTY,
    INSIDE,
    ITSELF,
    NARROW,
    NEAR,
    OUTLINE,
    OUTSIDE,
    SEAM,
    UNMARKED,
    Frames,
    Setup,
    Surfaces,
    inverse_depth,
    inverse_depth_slope,
    mask_bits,
    weights,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})

SHORT = wp.constant(2.0e-4)  # of a line in a pixel: less does not count
ROUNDS = wp.constant(32)  # pieces that a line in a pixel falls into, at most
TOUCHING = wp.constant(3.0e-3)  # two surfaces whose 1/z differ by less beside an edge meet there, though one may be steep [1]


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
def cover(frame: Frames, b: int, f: int, t: Setup, line: wp.vec4, iz: wp.vec2) -> wp.vec2:
    """The parameters along a line at which a face lies over it, and nearer than `iz`, the line's 1/z at its ends."""
    w = weights(t, line[0], line[1])
    v = weights(t, line[2], line[3])
    w_sum = w[0] + w[1] + w[2]
    v_sum = v[0] + v[1] + v[2]
    span = cut(wp.vec2(0.0, 1.0), w_sum - iz[0], v_sum - iz[1])
    if span[0] >= span[1]:
        return span
    span = cut(cut(cut(span, w[0], v[0]), w[1], v[1]), w[2], v[2])
    if (frame[b].facing[f] & CLIPPED) != 0:
        span = cut(span, 1.0 / frame[b].near - w_sum, 1.0 / frame[b].near - v_sum)
    return span


@wp.func
def along(line: wp.vec4, t: float) -> wp.vec2:
    return wp.vec2(line[0] + t * (line[2] - line[0]), line[1] + t * (line[3] - line[1]))


@wp.func
def depths_along(t: Setup, line: wp.vec4) -> wp.vec2:
    return wp.vec2(inverse_depth(t, line[0], line[1]), inverse_depth(t, line[2], line[3]))


@wp.func
def passed_over(node: wp.vec4i, line: wp.vec4i) -> bool:
    """Whether a listed face is one of the two that make a line, or of the convex solid of either: it does not hide that line."""
    return node[0] == line[0] or node[0] == line[1] or (node[1] >= 0 and (node[1] == line[2] or node[1] == line[3]))


@wp.func
def makers(surface: Surfaces, one: int, other: int) -> wp.vec4i:
    """Two faces that make a line (-1: none), and their convex solids."""
    return wp.vec4i(one, other, surface[0].convex[one], wp.where(other >= 0, surface[0].convex[wp.max(other, 0)], -1))


@wp.struct
class Sight:
    """What is seen of a line from `start` on. It is hidden until `end`; if that is `start` itself, it is seen from there until
    `then`, and the face `behind` (-1: none) is next to it, at the point asked for, with 1/z. `others`: how many faces there are
    that might be."""

    end: float
    then: float
    behind: int
    iz: float
    others: int


@wp.func
def look(
    frame: Frames, b: int, node: int, line: wp.vec4, iz: wp.vec2, by: wp.vec4i, part: int, start: float, beside: wp.vec2
) -> Sight:
    """Looks along a line `by` its `makers`, the first of which is of a `part`, whose 1/z at its ends is `iz`, and at a point
    beside it."""
    s = Sight()
    s.end = start
    s.then = 1.0
    s.behind = -1
    nodes = frame[b].nodes
    setups = frame[b].setup
    n = node
    while n > EMPTY and s.end < 1.0:
        entry = nodes[n - EMPTY - 1]
        n = entry[3]
        f = entry[0]
        if not passed_over(entry, by):
            s.others += 1
            t = setups[f]
            w = weights(t, beside[0], beside[1])
            w_sum = w[0] + w[1] + w[2]
            if w_sum > s.iz and wp.min(w) >= 0.0 and w_sum * frame[b].near < 1.0:
                s.behind = f
                s.iz = w_sum
            limit = iz
            if entry[2] == part:
                limit = ITSELF * iz
            span = cover(frame, b, f, t, line, limit)
            if span[0] < span[1]:
                if span[0] <= start + SHORT:
                    s.end = wp.max(s.end, span[1])
                else:
                    s.then = wp.min(s.then, span[0])
    return s


@wp.func
def seen_until(frame: Frames, b: int, node: int, line: wp.vec4, outer: int, by: wp.vec4i, start: float, end: float) -> float:
    """Until where, from `start` on, the face `outer` stays what is seen along a line `by` its `makers`; at most `end`."""
    iz = wp.vec2(0.0, 0.0)
    until = end
    if outer >= 0:
        t = frame[b].setup[outer]
        iz = depths_along(t, line)
        span = cover(frame, b, outer, t, line, wp.vec2(0.0, 0.0))
        if span[1] > start + SHORT:
            until = wp.min(until, span[1])
    nodes = frame[b].nodes
    n = node
    while n > EMPTY:
        entry = nodes[n - EMPTY - 1]
        n = entry[3]
        if entry[0] != outer and not passed_over(entry, by):
            span = cover(frame, b, entry[0], frame[b].setup[entry[0]], line, iz)
            if span[0] < span[1] and span[0] > start + SHORT:
                until = wp.min(until, span[0])
    return until


@wp.func
def touches(frame: Frames, b: int, other: int, p: wp.vec2, iz: float) -> bool:
    """Whether a face has the 1/z `iz` at a point, as far as rounding tells."""
    if other < 0:
        return False
    return wp.abs(inverse_depth(frame[b].setup[other], p[0], p[1]) - iz) < TOUCHING * iz


@wp.func
def add_piece(
    surface: Surfaces, frame: Frames, b: int, at: int, inner: int, seen: int, fold: int, kind: int, line: wp.vec4,
    iz: float,
):  # fmt: skip
    """Keeps a piece, and adds its part to the image. `seen`: the outer face; `fold`: one without area that lies between if
    that face touches the inner one; iz: 1/z in the line's middle."""
    n = wp.atomic_add(frame[b].used, 1, 1)
    if n >= frame[b].pieces.shape[0]:
        return
    mx = 0.5 * (line[0] + line[2])
    my = 0.5 * (line[1] + line[3])
    outer = seen
    kept = kind
    if kind == BORDER or fold >= 0:
        if kind == BORDER:
            kept = OUTLINE
        if touches(frame, b, seen, wp.vec2(mx, my), iz):
            kept = kind  # of two borders that meet, each has half the jump
            if fold >= 0:
                outer = fold
    piece = wp.vec4i(inner, outer, kept, at)
    area = signed_area(surface, frame, b, piece, line)
    if kept == BORDER:
        area *= 0.5
    frame[b].pieces[n] = piece
    frame[b].lines[n] = line
    jump = color_of(surface, frame, b, inner, mx, my) - color_of(surface, frame, b, outer, mx, my)
    wp.atomic_add(frame[b].color, at, area * jump)
    if frame[b].mean_depth != 0:
        wp.atomic_add(frame[b].depth, at, area * inverse_depth_jump(surface, frame, b, inner, outer, mx, my))
    bits = mask_bits(surface, inner)
    outer_bits = mask_bits(surface, outer)
    if bits != outer_bits:
        pixels = frame[b].width * frame[b].height
        for m in range(frame[b].mask_count):
            wp.atomic_add(frame[b].masks, m * pixels + at, area * float(((bits >> m) & 1) - ((outer_bits >> m) & 1)))


@wp.func
def add_seen(
    surface: Surfaces, frame: Frames, b: int, at: int, inner: int, outer: int, kind: int, line: wp.vec4,
    own: wp.vec2,
):  # fmt: skip
    """Adds what is seen of a line in one pixel, piece by piece; `outer` is what lies behind it if the kind tells, else it is
    looked up (and `outer` may be a face without area at an outline). own: 1/z at the line's ends."""
    node = frame[b].lists[at]
    n = outwards(line)
    aside = wp.vec4(n[0], n[1], n[0], n[1])
    inside = line
    outside = line + OUTSIDE * aside
    if kind == OUTLINE or kind == BORDER or kind == SEAM:
        inside = line - INSIDE * aside
    iz = own
    if (frame[b].facing[inner] & NARROW) == 0:  # else its plane has few digits
        iz = depths_along(frame[b].setup[inner], inside)
    by = makers(surface, inner, outer)
    part = surface[0].part[inner]
    looked_up = kind == OUTLINE or kind == BORDER or kind == NEAR
    behind = outer
    fold = wp.where(kind == OUTLINE, outer, -1)
    start = float(0.0)
    rounds = int(0)
    while start < 1.0 - SHORT and rounds < ROUNDS:
        rounds += 1
        s = look(frame, b, node, inside, iz, by, part, start, along(outside, start + 2.0 * SHORT))
        if s.end > start + SHORT:
            start = s.end
        else:
            end = s.then
            if looked_up:
                behind = s.behind
                if s.others > 1:
                    end = seen_until(frame, b, node, outside, behind, makers(surface, inner, -1), start, end)
            p = along(line, start)
            q = along(line, end)
            piece = wp.vec4(p[0], p[1], q[0], q[1])
            middle = iz[0] + 0.5 * (start + end) * (iz[1] - iz[0])
            add_piece(surface, frame, b, at, inner, behind, fold, kind, piece, middle)
            start = end


@wp.kernel
def trace_edges(first: int, surface: Surfaces, frame: Frames, many: int):
    """(batch, many): what is seen of the edges that `mark_edges` kept, every many-th of them."""
    i, j = wp.tid()
    b = first + i
    for e in range(j, frame[b].used[3], many):
        sides = frame[b].sides[e]
        line = frame[b].runs[e]
        ends = frame[b].ends[e]
        steps = first_stride(line)
        while steps[0] < 1.0:
            after = stride(line, steps)
            t = wp.min(after[0], 1.0)
            p = along(line, steps[0])
            q = along(line, t)
            m = 0.5 * (p + q)
            x = wp.clamp(int(m[0]), 0, frame[b].width - 1)
            y = wp.clamp(int(m[1]), 0, frame[b].height - 1)
            piece = wp.vec4(p[0], p[1], q[0], q[1])
            iz = wp.vec2(ends[0] + steps[0] * (ends[1] - ends[0]), ends[0] + t * (ends[1] - ends[0]))
            at = y * frame[b].width + x
            if frame[b].lists[at] != UNMARKED and wp.length_sq(q - p) > 1.0e-9:
                if not surely_hidden(frame, b, y, x, wp.max(iz)):
                    add_seen(surface, frame, b, at, sides[1], sides[2], sides[0], piece, iz)
            steps = after


@wp.func
def within(frame: Frames, b: int, f: int, line: wp.vec4) -> wp.vec2:
    """The parameters at which a line lies on a face, INSIDE away from its edges."""
    t = frame[b].setup[f]
    w = weights(t, line[0], line[1])
    v = weights(t, line[2], line[3])
    span = wp.vec2(0.0, 1.0)
    for k in range(3):
        margin = INSIDE * wp.sqrt(t[3 * k] * t[3 * k] + t[3 * k + 1] * t[3 * k + 1])
        span = cut(span, w[k] - margin, v[k] - margin)
    return span


@wp.func
def crossing(slope: wp.vec2, here: float, cx: float, cy: float) -> wp.vec4:
    """The line in a pixel where a function, `here` at the pixel's centre, is zero, its positive side to the left (inner); all
    zero if it does not meet it."""
    size = wp.length(slope)
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
def cross_faces(surface: Surfaces, frame: Frames, b: int, at: int, f: int, other: int, slope: wp.vec2, here: float):
    """Adds the curve along which two faces of different parts pass through each other (other >= 0), or along which a face is
    cut off by the near distance (-1): where a function of the image, `here` at the pixel's centre, is zero."""
    if wp.abs(here) >= 0.5 * (wp.abs(slope[0]) + wp.abs(slope[1])):
        return
    line = crossing(slope, here, float(at % frame[b].width) + 0.5, float(at / frame[b].width) + 0.5)
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
    line = wp.vec4(p[0], p[1], q[0], q[1])
    kind = wp.where(other >= 0, CURVE, NEAR)
    add_seen(surface, frame, b, at, f, other, kind, line, depths_along(frame[b].setup[f], line))


@wp.kernel
def trace_curves(first: int, surface: Surfaces, frame: Frames, many: int):
    """(batch, many): what is seen of the curves along which faces of different parts pass through each other, in every many-th of
    the marked pixels."""
    i, j = wp.tid()
    b = first + i
    nodes = frame[b].nodes
    setups = frame[b].setup
    width = frame[b].width
    for c in range(j, frame[b].used[2], many):
        at = frame[b].marked[c]
        cx = float(at % width) + 0.5
        cy = float(at / width) + 0.5
        n = frame[b].lists[at]
        while n > EMPTY:
            one = nodes[n - EMPTY - 1]
            n = one[3]
            t = setups[one[0]]
            slope = inverse_depth_slope(t)
            iz = inverse_depth(t, cx, cy)
            if (frame[b].facing[one[0]] & CLIPPED) != 0:
                cross_faces(surface, frame, b, at, one[0], -1, -slope, 1.0 / frame[b].near - iz)
            m = n
            while m > EMPTY:
                other = nodes[m - EMPTY - 1]
                m = other[3]
                if other[2] != one[2]:
                    u = setups[other[0]]
                    apart = iz - inverse_depth(u, cx, cy)
                    cross_faces(surface, frame, b, at, one[0], other[0], slope - inverse_depth_slope(u), apart)
