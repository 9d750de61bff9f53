"""Edges on the image: between which faces colours jump, where the edge runs, and its way from pixel to pixel."""

# mypy: ignore-errors
# ruff: noqa: UP018 - float(0.0) declares a variable that a branch may change

import warp as wp

from samrl.model.render.kernels.types import (
    BACK,
    BORDER,
    CURVE,
    DEGENERATE,
    FRONT,
    ITSELF,
    LOW,
    NARROW,
    NEAR,
    OUTLINE,
    SEAM,
    THIN,
    Frames,
    Surfaces,
    face_at,
    has_one_colour,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func
def edge_sides(surface: Surfaces, frame: Frames, b: int, e: int) -> wp.vec4i:
    """(kind, inner face, other face, whether the edge is to be gone along from b to a). Kind 0: nothing jumps here. The other
    face is the outer one of a SEAM, the one without area beside an OUTLINE, else -1."""
    edge = surface[0].edges[e]
    f1 = edge[2]
    f2 = edge[3]
    seen1 = frame[b].facing[f1]
    seen2 = BACK
    if f2 >= 0:
        seen2 = frame[b].facing[f2]
    front1 = (seen1 & FRONT) != 0
    front2 = (seen2 & FRONT) != 0
    if front1 and front2:
        c = surface[0].edge_corners[e]
        same = c[0] == c[2] and c[1] == c[3]
        one_colour = same and has_one_colour(surface, f1) and has_one_colour(surface, f2) and frame[b].mean_depth == 0
        if one_colour or (same and ((seen1 | seen2) & NARROW) == 0 and frame[b].free == 0):
            return wp.vec4i(0, -1, -1, 0)
        return wp.vec4i(SEAM, f1, f2, 0)
    if front1:
        if f2 < 0:
            return wp.vec4i(BORDER, f1, -1, 0)
        return wp.vec4i(OUTLINE, f1, wp.where(seen2 == DEGENERATE, f2, -1), 0)
    if front2:
        return wp.vec4i(OUTLINE, f2, wp.where(seen1 == DEGENERATE, f1, -1), 1)
    return wp.vec4i(0, -1, -1, 0)


@wp.func
def clip(begin: float, step: float, size: float, t: wp.vec2) -> wp.vec2:
    """The part of the parameter interval t in which begin + step t lies in [0, size]; empty if its ends cross."""
    if wp.abs(step) < 1.0e-12:
        if begin < 0.0 or begin > size:
            return wp.vec2(1.0, 0.0)
        return t
    t0 = -begin / step
    t1 = (size - begin) / step
    return wp.vec2(wp.max(t[0], wp.min(t0, t1)), wp.min(t[1], wp.max(t0, t1)))


@wp.func
def edge_line(surface: Surfaces, frame: Frames, b: int, e: int, backwards: int) -> wp.vec4:
    """Ends (x0, y0, x1, y1) of what lies of an edge before the camera and within the image; all zero if nothing does."""
    edge = surface[0].edges[e]
    ha = frame[b].h[edge[backwards]]
    hb = frame[b].h[edge[1 - backwards]]
    if ha[2] < frame[b].near and hb[2] < frame[b].near:
        return wp.vec4()
    u0 = float(0.0)
    u1 = float(1.0)
    if ha[2] < frame[b].near:
        u0 = (frame[b].near - ha[2]) / (hb[2] - ha[2])
    if hb[2] < frame[b].near:
        u1 = (frame[b].near - ha[2]) / (hb[2] - ha[2])
    p = ha + u0 * (hb - ha)
    q = ha + u1 * (hb - ha)
    x = p[0] / p[2]
    y = p[1] / p[2]
    dx = q[0] / q[2] - x
    dy = q[1] / q[2] - y
    span = wp.vec2(0.0, 1.0)
    span = clip(x, dx, float(frame[b].width), span)
    span = clip(y, dy, float(frame[b].height), span)
    if span[0] >= span[1] or wp.abs(dx) + wp.abs(dy) < THIN:
        return wp.vec4()
    return wp.vec4(x + span[0] * dx, y + span[0] * dy, x + span[1] * dx, y + span[1] * dy)


@wp.func
def edge_depths(surface: Surfaces, frame: Frames, b: int, e: int, backwards: int, line: wp.vec4) -> wp.vec2:
    """1/z at the ends of `edge_line`: linear on the screen between those of the vertices."""
    edge = surface[0].edges[e]
    h = frame[b].h[edge[backwards]]
    g = frame[b].h[edge[1 - backwards]]
    d = wp.vec2(line[2] - line[0], line[3] - line[1])
    along = wp.vec3(d[0], d[1], -(d[0] * line[0] + d[1] * line[1]))  # times h: how far from the line's begin, times z
    p = wp.dot(along, h)
    q = wp.dot(along, g)
    # the point of the edge in space, (1 - u) h + u g, that is seen at a share t of the line
    size = wp.dot(d, d)
    u0 = p / (p - q)
    u1 = (p - size * h[2]) / (p - q - size * (h[2] - g[2]))
    return wp.vec2(1.0 / (h[2] + u0 * (g[2] - h[2])), 1.0 / (h[2] + u1 * (g[2] - h[2])))


@wp.func
def surely_hidden(frame: Frames, b: int, y: int, x: int, iz: float) -> bool:
    """Whether one face is seen all over a pixel, as the pixels at its corners tell, and is nearer than `iz`. A face is convex, so
    what is between pixels' centres that show it shows it, or something nearer."""
    width = frame[b].width
    if y < 1 or x < 1 or y >= frame[b].height - 1 or x >= width - 1:
        return False
    zbuffer = frame[b].zbuffer
    at = (y - 1) * width + x
    k0 = zbuffer[at - 1]
    f = k0 & LOW
    if f == wp.int64(0):
        return False
    k1 = zbuffer[at + 1]
    k2 = zbuffer[at + 2 * width - 1]
    k3 = zbuffer[at + 2 * width + 1]
    if (k1 & LOW) != f or (k2 & LOW) != f or (k3 & LOW) != f:
        return False
    farthest = wp.min(wp.min(k0, k1), wp.min(k2, k3))  # of one face, keys sort by 1/z
    return wp.cast(int(farthest >> wp.int64(32)), float) > ITSELF * iz


@wp.func
def next_border(x: float, dx: float) -> float:
    """Parameter at which x + t dx meets the first border of pixels after t = 0."""
    if dx > 0.0:
        return (wp.floor(x) + 1.0 - x) / wp.max(dx, 1.0e-12)
    return (x - wp.ceil(x) + 1.0) / wp.max(-dx, 1.0e-12)


@wp.func
def first_stride(line: wp.vec4) -> wp.vec3:
    """(where we are, next border in x, next border in y), parameters along a line."""
    return wp.vec3(0.0, next_border(line[0], line[2] - line[0]), next_border(line[1], line[3] - line[1]))


@wp.func
def stride(line: wp.vec4, s: wp.vec3) -> wp.vec3:
    """One pixel further."""
    if s[1] <= s[2]:
        return wp.vec3(s[1], s[1] + 1.0 / wp.max(wp.abs(line[2] - line[0]), 1.0e-12), s[2])
    return wp.vec3(s[2], s[1], s[2] + 1.0 / wp.max(wp.abs(line[3] - line[1]), 1.0e-12))


@wp.func
def outwards(line: wp.vec4) -> wp.vec2:
    """Unit normal of a line, away from its inner face: a face seen from outside turns clockwise on the screen, whose y points
    down."""
    return wp.normalize(wp.vec2(line[1] - line[3], line[2] - line[0]))


@wp.func
def round_the_pixel(x: float, y: float) -> float:
    """Where the ray from the centre of a pixel through (x, y) leaves it: 0 to 8 along its border, a corner each second one."""
    m = wp.max(wp.max(wp.abs(x), wp.abs(y)), 1.0e-12)
    if x >= wp.abs(y):
        return y / m
    if y >= wp.abs(x):
        return 2.0 - x / m
    if -x >= wp.abs(y):
        return 4.0 - y / m
    return 6.0 + x / m


@wp.func
def shadow(x0: float, y0: float, x1: float, y1: float) -> float:
    """Area of a pixel that lies beyond a line in it, as seen from the pixel's centre, from which the line's ends are given.

    On each ray from the centre what is seen begins as it is at the centre and changes at each line it crosses. The mean over a
    pixel is therefore its centre's colour, plus each line's jump times this area, in any order of lines."""
    turn = round_the_pixel(x1, y1) - round_the_pixel(x0, y0)
    if turn > 4.0:
        turn -= 8.0
    if turn < -4.0:
        turn += 8.0
    return wp.max(0.125 * wp.abs(turn) - 0.5 * wp.abs(x0 * y1 - x1 * y0), 0.0)


@wp.func
def belongs(surface: Surfaces, f: int, inner: int, outer: int, otherwise: bool) -> bool:
    """Whether a face is the inner one of two, or of its part if the other is not."""
    if f == inner:
        return True
    if f == outer:
        return False
    if f < 0 or outer < 0:
        return f >= 0 and surface[0].part[f] == surface[0].part[inner]
    if surface[0].part[inner] == surface[0].part[outer]:
        return otherwise
    if surface[0].part[f] == surface[0].part[inner]:
        return True
    if surface[0].part[f] == surface[0].part[outer]:
        return False
    return otherwise


@wp.func
def signed_area(surface: Surfaces, frame: Frames, b: int, piece: wp.vec4i, line: wp.vec4) -> float:
    """`shadow` of a piece in its pixel, by which the jump from its outer to its inner face is added: negative if the centre of
    the pixel is on the inner side."""
    y = piece[3] / frame[b].width
    x = piece[3] - y * frame[b].width
    cx = float(x) + 0.5
    cy = float(y) + 0.5
    normal = outwards(line)
    aside = normal[0] * (cx - line[0]) + normal[1] * (cy - line[1])
    inside = aside < 0.0
    close = 2.0 * THIN  # the z-buffer may have taken it for the other side
    if piece[2] == CURVE or piece[2] == NEAR:
        close = 10.0 * THIN  # where planes meet at a small angle, digits are few
    if wp.abs(aside) < close:
        inside = belongs(surface, face_at(frame[b].zbuffer, piece[3]), piece[0], piece[1], inside)
    area = shadow(line[0] - cx, line[1] - cy, line[2] - cx, line[3] - cy)
    if inside:
        return -area
    return area
