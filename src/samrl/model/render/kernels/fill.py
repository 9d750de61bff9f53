"""Warp kernels from projected vertices to the nearest face at each cell's centre, and to the list of faces that meet each cell
in which centres alone do not tell what is seen."""

# mypy: ignore-errors
# ruff: noqa: UP018, RUF046, SIM102 - Warp: int(0) declares a variable that a loop may change; no `in`, no nested `and`

import warp as wp

from samrl.model.render.kernels.edges import edge_line, edge_sides, first_stride, stride
from samrl.model.render.kernels.types import (
    BACK,
    CLIPPED,
    DEGENERATE,
    EMPTY,
    FRONT,
    NARROW,
    NARROW_WIDTH,
    THIN,
    UNMARKED,
    Frame,
    Setup,
    Surface,
    face_at,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func
def about(h: wp.vec3, rx: float, ry: float) -> wp.vec3:
    """h with (rx, ry) as origin: keeps digits where a triangle is small and far from (0, 0)."""
    return wp.vec3(h[0] - rx * h[2], h[1] - ry * h[2], h[2])


@wp.func
def bounds(h0: wp.vec3, h1: wp.vec3, h2: wp.vec3) -> wp.vec4:
    """Left, right, top and bottom of three points before the camera."""
    x = wp.vec3(h0[0] / h0[2], h1[0] / h1[2], h2[0] / h2[2])
    y = wp.vec3(h0[1] / h0[2], h1[1] / h1[2], h2[1] / h2[2])
    return wp.vec4(wp.min(x), wp.max(x), wp.min(y), wp.max(y))


@wp.func
def row_span(t: Setup, dy: float, slack: wp.vec3, left: float, right: float) -> wp.vec2:
    """The interval of dx in [left, right] where w_k + slack_k >= 0 in the row dy, both from the setup's origin; empty if its ends
    cross."""
    low = left
    high = right
    for k in range(3):
        a = t[3 * k]
        a = wp.where(wp.abs(a) > 1.0e-20, a, 1.0e-20)
        x = -(t[3 * k + 1] * dy + t[3 * k + 2] + slack[k]) / a
        low = wp.where(a > 0.0, wp.max(low, x), low)
        high = wp.where(a < 0.0, wp.min(high, x), high)
    return wp.vec2(low, high)


@wp.func
def slack_of(t: Setup, width: float) -> wp.vec3:
    """By how much w_k may be negative within a square of half-width `width` that meets the triangle."""
    return width * wp.vec3(wp.abs(t[0]) + wp.abs(t[1]), wp.abs(t[3]) + wp.abs(t[4]), wp.abs(t[6]) + wp.abs(t[7]))


@wp.kernel
def fill(first: int, surface: Surface, frame: Frame):
    """(batch, F): sets each face up and writes the cells whose centre it covers. A key is (bits of 1/z, face + 1), so that
    the greatest key is the nearest face: positive floats sort like their bits."""
    i, f = wp.tid()
    b = first + i
    corner = surface.faces[f]
    h0 = frame.h[b, corner[0]]
    h1 = frame.h[b, corner[1]]
    h2 = frame.h[b, corner[2]]
    frame.facing[b, f] = BACK
    far = wp.max(h0[2], wp.max(h1[2], h2[2]))
    if far < frame.near:
        return
    origin = h0
    if h1[2] == far:
        origin = h1
    if h2[2] == far:
        origin = h2
    rx = origin[0] / far
    ry = origin[1] / far
    h0 = about(h0, rx, ry)
    h1 = about(h1, rx, ry)
    h2 = about(h2, rx, ry)
    n0 = wp.cross(h1, h2)
    n1 = wp.cross(h2, h0)
    n2 = wp.cross(h0, h1)
    volume = wp.dot(h0, n0)  # twice the signed area times the depths; negative where the outside is seen
    rows = float(frame.zbuffer.shape[1])
    columns = float(frame.zbuffer.shape[2])
    box = wp.vec4(-rx, columns - rx, -ry, rows - ry)
    seen = int(FRONT)
    if wp.min(h0[2], wp.min(h1[2], h2[2])) >= frame.near:
        box = bounds(h0, h1, h2)
        area = wp.abs(volume) / (h0[2] * h1[2] * h2[2])  # twice the area
        if area < THIN * (box[1] - box[0] + box[3] - box[2]):
            frame.facing[b, f] = DEGENERATE
            return
        e0 = wp.length_sq(h1 / h1[2] - h0 / h0[2])
        e1 = wp.length_sq(h2 / h2[2] - h1 / h1[2])
        e2 = wp.length_sq(h0 / h0[2] - h2 / h2[2])
        if area < NARROW_WIDTH * wp.sqrt(wp.max(e0, wp.max(e1, e2))):
            seen = FRONT | NARROW
    else:
        seen = FRONT | CLIPPED
    if volume >= 0.0:
        return
    frame.facing[b, f] = seen
    n0 = n0 / volume
    n1 = n1 / volume
    n2 = n2 / volume
    t = Setup(n0[0], n0[1], n0[2], n1[0], n1[1], n1[2], n2[0], n2[1], n2[2], rx, ry)
    frame.setup[b, f] = t
    left = wp.max(box[0], -rx) - THIN
    right = wp.min(box[1], columns - rx) + THIN
    first_row = int(wp.ceil(wp.max(box[2] + ry, 0.0) - 0.5 - THIN))
    last_row = int(wp.floor(wp.min(box[3] + ry, rows) - 0.5 + THIN))
    slack = slack_of(t, THIN)  # a hair's breadth, so that no centre falls between two faces
    slope = n0[0] + n1[0] + n2[0]
    key_low = wp.int64(f + 1)
    nearest = 1.0 / frame.near
    for y in range(wp.max(first_row, 0), wp.min(last_row, frame.zbuffer.shape[1] - 1) + 1):
        dy = float(y) + 0.5 - ry
        span = row_span(t, dy, slack, left, right)
        if span[0] <= span[1]:
            begin = wp.max(int(wp.ceil(span[0] + rx - 0.5)), 0)
            end = wp.min(int(wp.floor(span[1] + rx - 0.5)), frame.zbuffer.shape[2] - 1)
            base = (n0[1] + n1[1] + n2[1]) * dy + n0[2] + n1[2] + n2[2]
            for x in range(begin, end + 1):
                iz = base + slope * (float(x) + 0.5 - rx)
                if iz > 0.0 and iz < nearest:
                    key = (wp.int64(wp.cast(iz, wp.int32)) << wp.int64(32)) | key_low
                    if key > frame.zbuffer[b, y, x]:
                        wp.atomic_max(frame.zbuffer, b, y, x, key)


@wp.kernel
def mark_edges(first: int, surface: Surface, frame: Frame):
    """(batch, E): marks the cells through which an edge runs at which colours may jump."""
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
        t = 0.5 * (steps[0] + wp.min(after[0], 1.0))
        x = wp.clamp(int(line[0] + t * (line[2] - line[0])), 0, frame.lists.shape[2] - 1)
        y = wp.clamp(int(line[1] + t * (line[3] - line[1])), 0, frame.lists.shape[1] - 1)
        frame.lists[b, y, x] = EMPTY
        steps = after


@wp.func
def may_cross(surface: Surface, frame: Frame, b: int, f: int, other: int) -> bool:
    """Whether, of two faces seen side by side, one may pass through the other or be cut off beside it, being too near."""
    if f == other:
        return False
    if f >= 0:
        if (frame.facing[b, f] & CLIPPED) != 0:
            return True
    if other >= 0:
        if (frame.facing[b, other] & CLIPPED) != 0:
            return True
        if f >= 0:
            return surface.part[other] != surface.part[f]
    return False


@wp.kernel
def mark_crossings(first: int, surface: Surface, frame: Frame):
    """(batch, H S): marks the cells beside which a face is seen that may cross the cell's own. At the image's border, where there
    is nothing to be seen on one side, two cells along it are looked at."""
    i, y = wp.tid()
    b = first + i
    rows = frame.lists.shape[1]
    columns = frame.lists.shape[2]
    for x in range(columns):
        if frame.lists[b, y, x] == UNMARKED:
            f = face_at(frame.zbuffer, b, y, x)
            marked = bool(False)
            reach = int(1)
            if x == 0 or y == 0 or x == columns - 1 or y == rows - 1:
                reach = 2
            for v in range(wp.max(y - reach, 0), wp.min(y + reach, rows - 1) + 1):
                for u in range(wp.max(x - reach, 0), wp.min(x + reach, columns - 1) + 1):
                    marked = marked or may_cross(surface, frame, b, f, face_at(frame.zbuffer, b, v, u))
            if marked:
                frame.lists[b, y, x] = EMPTY


@wp.kernel
def list_faces(first: int, surface: Surface, frame: Frame):
    """(batch, F): puts each face on the lists of the marked cells that it meets. A few lists get a face that passes by a
    corner of the cell."""
    i, f = wp.tid()
    b = first + i
    seen = frame.facing[b, f]
    if (seen & FRONT) == 0:
        return
    t = frame.setup[b, f]
    rx = t[9]
    ry = t[10]
    rows = float(frame.lists.shape[1])
    columns = float(frame.lists.shape[2])
    box = wp.vec4(0.0, columns, 0.0, rows)
    if (seen & CLIPPED) == 0:
        corner = surface.faces[f]
        box = bounds(frame.h[b, corner[0]], frame.h[b, corner[1]], frame.h[b, corner[2]])
        if box[1] < 0.0 or box[3] < 0.0 or box[0] > columns or box[2] > rows:
            return
    left = wp.max(box[0], 0.0) - 0.5 - THIN - rx
    right = wp.min(box[1], columns) + 0.5 + THIN - rx
    first_row = wp.max(int(wp.floor(box[2] - THIN)), 0)
    last_row = wp.min(int(wp.floor(box[3] + THIN)), frame.lists.shape[1] - 1)
    slack = slack_of(t, 0.5 + THIN)
    for y in range(first_row, last_row + 1):
        span = row_span(t, float(y) + 0.5 - ry, slack, left, right)
        if span[0] <= span[1]:
            begin = wp.max(int(wp.ceil(span[0] + rx - 0.5)), 0)
            end = wp.min(int(wp.floor(span[1] + rx - 0.5)), frame.lists.shape[2] - 1)
            for x in range(begin, end + 1):
                if frame.lists[b, y, x] != UNMARKED:
                    n = wp.atomic_add(frame.used, b, 0, 1)
                    if n < frame.nodes.shape[1]:
                        old = wp.atomic_exch(frame.lists, b, y, x, n + EMPTY + 1)
                        frame.nodes[b, n] = wp.vec2i(f, old)
