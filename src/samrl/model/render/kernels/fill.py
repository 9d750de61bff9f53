"""Warp kernels from projected vertices to the nearest face at each pixel's centre, and to the list of faces that meet each pixel
in which its centre alone does not tell what is seen."""

# mypy: ignore-errors
# ruff: noqa: SIM102, UP018, RUF046 - Warp evaluates both sides of `and`; int(0) declares a variable that a branch may change

import warp as wp

from samrl.model.render.kernels.edges import edge_depths, edge_line, edge_sides, first_stride, stride, surely_hidden
from samrl.model.render.kernels.rows import clear_row, next_crossing, next_listed, write_keys
from samrl.model.render.kernels.texture import has_texture
from samrl.model.render.kernels.types import (
    BACK,
    CLIPPED,
    DAMPING,
    DEGENERATE,
    EMPTY,
    FRONT,
    NARROW,
    NARROW_TEXTURED,
    NARROW_WIDTH,
    THIN,
    UNMARKED,
    Frames,
    Narrow,
    Setup,
    Surfaces,
    face_at,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})


Mat32 = wp.types.matrix(shape=(3, 2), dtype=wp.float32)


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
def row_limits(t: Setup, width: float) -> Mat32:
    """Rows (per dy, constant), one for each k: where along a row, from the setup's origin, w_k is as much below zero as it may be
    within a square of half-width `width` that meets the triangle."""
    m = Mat32()
    for k in range(3):
        a = t[3 * k]
        b = t[3 * k + 1]
        c = t[3 * k + 2] + width * (wp.abs(a) + wp.abs(b))
        a = -1.0 / wp.where(wp.abs(a) > 1.0e-20, a, 1.0e-20)
        m[k, 0] = b * a
        m[k, 1] = c * a
    return m


@wp.func
def row_span(t: Setup, m: Mat32, dy: float, left: float, right: float) -> wp.vec2:
    """The interval of dx in [left, right] that is within the limits in the row dy; empty if its ends cross."""
    x0 = m[0, 0] * dy + m[0, 1]
    x1 = m[1, 0] * dy + m[1, 1]
    x2 = m[2, 0] * dy + m[2, 1]
    low = wp.max(wp.where(t[0] >= 0.0, x0, left), wp.where(t[3] >= 0.0, x1, left))
    high = wp.min(wp.where(t[0] < 0.0, x0, right), wp.where(t[3] < 0.0, x1, right))
    low = wp.max(wp.max(low, wp.where(t[6] >= 0.0, x2, left)), left)
    high = wp.min(wp.min(high, wp.where(t[6] < 0.0, x2, right)), right)
    return wp.vec2(low, high)


@wp.func
def set_narrow(frame: Frames, b: int, f: int, p0: wp.vec2, p1: wp.vec2, p2: wp.vec2, rx: float, ry: float):
    """Keeps what `shading` needs of a narrow face with corners p (from rx, ry)."""
    middle = (p0 + p1 + p2) / 3.0
    q0 = p0 - middle
    q1 = p1 - middle
    q2 = p2 - middle
    xx = q0[0] * q0[0] + q1[0] * q1[0] + q2[0] * q2[0] + DAMPING
    xy = q0[0] * q0[1] + q1[0] * q1[1] + q2[0] * q2[1]
    yy = q0[1] * q0[1] + q1[1] * q1[1] + q2[1] * q2[1] + DAMPING
    d = 1.0 / (xx * yy - xy * xy)
    frame[b].narrow[f] = Narrow(middle[0] + rx, middle[1] + ry, d * yy, -d * xy, d * xx)


@wp.kernel
def clear(first: int, frame: Frames):
    """(batch, H): begins an image, row by row."""
    i, y = wp.tid()
    b = first + i
    width = frame[b].width
    clear_row(frame[b].zbuffer, frame[b].lists, y * width, (y + 1) * width)
    if y == 0:
        for k in range(4):
            frame[b].used[k] = 0


@wp.kernel
def fill(first: int, surface: Surfaces, frame: Frames):
    """(batch, F): sets each face up and writes the pixels whose centre it covers. A key is (bits of 1/z, face + 1), so that
    the greatest key is the nearest face: positive floats sort like their bits."""
    i, f = wp.tid()
    b = first + i
    corner = surface[0].faces[f]
    h0 = frame[b].h[corner[0]]
    h1 = frame[b].h[corner[1]]
    h2 = frame[b].h[corner[2]]
    frame[b].facing[f] = BACK
    far = wp.max(h0[2], wp.max(h1[2], h2[2]))
    if far < frame[b].near:
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
    zbuffer = frame[b].zbuffer
    width = frame[b].width
    height = frame[b].height
    rows = float(height)
    columns = float(width)
    box = wp.vec4(-rx, columns - rx, -ry, rows - ry)
    seen = int(FRONT)
    if wp.min(h0[2], wp.min(h1[2], h2[2])) >= frame[b].near:
        box = bounds(h0, h1, h2)
        area = wp.abs(volume) / (h0[2] * h1[2] * h2[2])  # twice the area
        if area < THIN * (box[1] - box[0] + box[3] - box[2]):
            frame[b].facing[f] = DEGENERATE
            return
        p0 = wp.vec2(h0[0], h0[1]) / h0[2]
        p1 = wp.vec2(h1[0], h1[1]) / h1[2]
        p2 = wp.vec2(h2[0], h2[1]) / h2[2]
        long = wp.max(wp.length_sq(p1 - p0), wp.max(wp.length_sq(p2 - p1), wp.length_sq(p0 - p2)))
        if area < wp.where(has_texture(surface), NARROW_TEXTURED, NARROW_WIDTH) * wp.sqrt(long):
            seen = FRONT | NARROW
            set_narrow(frame, b, f, p0, p1, p2, rx, ry)
    else:
        seen = FRONT | CLIPPED
    if volume >= 0.0:
        return
    frame[b].facing[f] = seen
    n0 = n0 / volume
    n1 = n1 / volume
    n2 = n2 / volume
    t = Setup(n0[0], n0[1], n0[2], n1[0], n1[1], n1[2], n2[0], n2[1], n2[2], rx, ry)
    frame[b].setup[f] = t
    left = wp.max(box[0], -rx) - THIN
    right = wp.min(box[1], columns - rx) + THIN
    first_row = int(wp.ceil(wp.max(box[2] + ry, 0.0) - 0.5 - THIN))
    last_row = int(wp.floor(wp.min(box[3] + ry, rows) - 0.5 + THIN))
    limits = row_limits(t, THIN)  # a hair's breadth, so that no centre falls between two faces
    slope = n0[0] + n1[0] + n2[0]
    nearest = 1.0 / frame[b].near
    for y in range(wp.max(first_row, 0), wp.min(last_row, height - 1) + 1):
        dy = float(y) + 0.5 - ry
        span = row_span(t, limits, dy, left, right)
        if span[0] <= span[1]:
            begin = wp.max(int(wp.ceil(span[0] + rx - 0.5)), 0)
            end = wp.min(int(wp.floor(span[1] + rx - 0.5)), width - 1)
            base = (n0[1] + n1[1] + n2[1]) * dy + n0[2] + n1[2] + n2[2]
            start = base + slope * (float(begin) + 0.5 - rx)
            write_keys(zbuffer, y * width + begin, y * width + end + 1, start, slope, nearest, f + 1)


@wp.func
def mark(frame: Frames, b: int, pixel: int):
    """Begins the list of a pixel, and keeps the pixel."""
    if frame[b].lists[pixel] == UNMARKED:
        if wp.atomic_exch(frame[b].lists, pixel, EMPTY) == UNMARKED:
            frame[b].marked[wp.atomic_add(frame[b].used, 2, 1)] = pixel


@wp.kernel
def mark_edges(first: int, surface: Surfaces, frame: Frames):
    """(batch, E): keeps the edges at which colours may jump, and marks the pixels through which those of moving parts run."""
    i, e = wp.tid()
    b = first + i
    sides = edge_sides(surface, frame, b, e)
    if sides[0] == 0:
        return
    line = edge_line(surface, frame, b, e, sides[3])
    if line[0] == line[2] and line[1] == line[3]:
        return
    ends = edge_depths(surface, frame, b, e, sides[3], line)
    n = wp.atomic_add(frame[b].used, 3, 1)
    frame[b].sides[n] = sides
    frame[b].runs[n] = line
    frame[b].ends[n] = ends
    if surface[0].moves[surface[0].edges[e][2]] == 0:
        return
    steps = first_stride(line)
    while steps[0] < 1.0:
        after = stride(line, steps)
        t = wp.min(after[0], 1.0)
        middle = 0.5 * (steps[0] + t)
        x = wp.clamp(int(line[0] + middle * (line[2] - line[0])), 0, frame[b].width - 1)
        y = wp.clamp(int(line[1] + middle * (line[3] - line[1])), 0, frame[b].height - 1)
        nearest = ends[0] + wp.where(ends[1] > ends[0], t, steps[0]) * (ends[1] - ends[0])
        if not surely_hidden(frame, b, y, x, nearest):
            mark(frame, b, y * frame[b].width + x)
        steps = after


@wp.func
def may_cross(surface: Surfaces, frame: Frames, b: int, f: int, other: int) -> bool:
    """Whether, of two faces seen side by side, of which one moves, one may pass through the other or be cut off
    beside it, being too near."""
    if f == other:
        return False
    moves = int(0)
    clipped = int(0)
    if f >= 0:
        moves += surface[0].moves[f]
        clipped += frame[b].facing[f] & CLIPPED
    if other >= 0:
        moves += surface[0].moves[other]
        clipped += frame[b].facing[other] & CLIPPED
    if moves == 0:
        return False
    if clipped != 0:
        return True
    if f < 0 or other < 0:
        return False
    return surface[0].part[other] != surface[0].part[f]


@wp.func
def mark_both(surface: Surfaces, frame: Frames, b: int, one: int, other: int):
    """Marks two pixels if their faces may cross."""
    f = face_at(frame[b].zbuffer, one)
    g = face_at(frame[b].zbuffer, other)
    if f != g:
        if may_cross(surface, frame, b, f, g):
            mark(frame, b, one)
            mark(frame, b, other)


@wp.kernel
def mark_crossings(first: int, surface: Surfaces, frame: Frames):
    """(batch, H): marks neighbouring pixels whose faces may cross. At the image's border, where there is nothing to be seen on
    one side, two pixels along it count as neighbours."""
    i, y = wp.tid()
    b = first + i
    zbuffer = frame[b].zbuffer
    columns = frame[b].width
    row = y * columns
    last = row + columns - 1
    border = y == 0 or y == frame[b].height - 1
    if y + 2 < frame[b].height:
        mark_both(surface, frame, b, row, row + 2 * columns)
        mark_both(surface, frame, b, last, last + 2 * columns)
    below = wp.where(y + 1 < frame[b].height, columns, 0)
    at = int(row)
    while at <= last:
        right = wp.min(at + 1, last)
        mark_both(surface, frame, b, at, right)
        mark_both(surface, frame, b, at, wp.max(at - 1, row) + below)
        mark_both(surface, frame, b, at, at + below)
        mark_both(surface, frame, b, at, right + below)
        if border:
            mark_both(surface, frame, b, at, wp.min(at + 2, last))
            at += 1
        else:
            at = next_crossing(zbuffer, frame[b].facing, surface[0].part, at + 1, last + 1, below, CLIPPED)


@wp.kernel
def list_faces(first: int, surface: Surfaces, frame: Frames):
    """(batch, F): puts each face on the lists of the marked pixels that it meets. A few lists get a face that passes by a
    corner of the pixel."""
    i, f = wp.tid()
    b = first + i
    seen = frame[b].facing[f]
    if (seen & FRONT) == 0:
        return
    t = frame[b].setup[f]
    rx = t[9]
    ry = t[10]
    lists = frame[b].lists
    width = frame[b].width
    rows = float(frame[b].height)
    columns = float(width)
    box = wp.vec4(0.0, columns, 0.0, rows)
    if (seen & CLIPPED) == 0:
        corner = surface[0].faces[f]
        box = bounds(frame[b].h[corner[0]], frame[b].h[corner[1]], frame[b].h[corner[2]])
        if box[1] < 0.0 or box[3] < 0.0 or box[0] > columns or box[2] > rows:
            return
    left = wp.max(box[0], 0.0) - 0.5 - THIN - rx
    right = wp.min(box[1], columns) + 0.5 + THIN - rx
    first_row = wp.max(int(wp.floor(box[2] - THIN)), 0)
    last_row = wp.min(int(wp.floor(box[3] + THIN)), frame[b].height - 1)
    limits = row_limits(t, 0.5 + THIN)
    for y in range(first_row, last_row + 1):
        span = row_span(t, limits, float(y) + 0.5 - ry, left, right)
        if span[0] <= span[1]:
            begin = wp.max(int(wp.ceil(span[0] + rx - 0.5)), 0)
            end = wp.min(int(wp.floor(span[1] + rx - 0.5)), width - 1)
            stop = y * width + end + 1
            at = next_listed(lists, y * width + begin, stop)
            while at < stop:
                n = wp.atomic_add(frame[b].used, 0, 1)
                if n < frame[b].nodes.shape[0]:
                    old = wp.atomic_exch(lists, at, n + EMPTY + 1)
                    frame[b].nodes[n] = wp.vec4i(f, surface[0].convex[f], surface[0].part[f], old)
                at = next_listed(lists, at + 1, stop)
