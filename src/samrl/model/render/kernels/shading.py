"""What a face shows at a point of the image, its colour and its 1/z, and the way back to its vertices and corners.

Both are interpolated with w_k = (barycentric k) / z. For a loss gradient g by the weights, dw = -M^-1 dM w makes the gradient
by h_k equal to -w_k times one vector, M^-T g, that the three vertices share.

Across a narrow face that slope is as steep as the face is narrow, and what cells see of it is chance. There both are linear along
the longest median and constant across, with the same mean, and the edges beside it carry the rest, as jumps.
"""

# mypy: ignore-errors

import warp as wp

from samrl.model.render.kernels.types import NARROW, VERTICES, Frame, Setup, Surface, weights

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.struct
class Lengthwise:
    """A narrow face: its vertices' pixels (x, y, 1/z), in order; the longest median, which leads to the vertex `tip`; d, from
    the middle of the face to the point, and its share s of the median."""

    p0: wp.vec3
    p1: wp.vec3
    p2: wp.vec3
    tip: int
    median: wp.vec2
    d: wp.vec2
    s: float


@wp.func
def pixel(h: wp.vec3) -> wp.vec3:
    return wp.vec3(h[0], h[1], 1.0) / h[2]


@wp.func
def lengthwise(surface: Surface, frame: Frame, b: int, f: int, x: float, y: float) -> Lengthwise:
    v = surface.faces[f]
    n = Lengthwise()
    n.p0 = pixel(frame.h[b, v[0]])
    n.p1 = pixel(frame.h[b, v[1]])
    n.p2 = pixel(frame.h[b, v[2]])
    middle = (n.p0 + n.p1 + n.p2) / 3.0
    m0 = 1.5 * wp.vec2(n.p0[0] - middle[0], n.p0[1] - middle[1])
    m1 = 1.5 * wp.vec2(n.p1[0] - middle[0], n.p1[1] - middle[1])
    m2 = 1.5 * wp.vec2(n.p2[0] - middle[0], n.p2[1] - middle[1])
    n.tip = 0
    n.median = m0
    if wp.length_sq(m1) > wp.length_sq(n.median):
        n.tip = 1
        n.median = m1
    if wp.length_sq(m2) > wp.length_sq(n.median):
        n.tip = 2
        n.median = m2
    n.d = wp.vec2(x - middle[0], y - middle[1])
    n.s = wp.dot(n.d, n.median) / wp.length_sq(n.median)
    return n


@wp.func
def along_median(n: Lengthwise, a0: float, a1: float, a2: float) -> float:
    """How much a value, given at the vertices, changes along the median."""
    tip = wp.where(n.tip == 0, a0, wp.where(n.tip == 1, a1, a2))
    return 1.5 * tip - 0.5 * (a0 + a1 + a2)


@wp.func
def share_of(n: Lengthwise, k: int) -> float:
    """What vertex k has in the median, and in the change of a value along it."""
    return wp.where(n.tip == k, 1.0, -0.5)


@wp.func
def color_of(surface: Surface, frame: Frame, b: int, f: int, x: float, y: float) -> wp.vec3:
    """Colour of a face, or of the background (-1), at a point."""
    if f < 0:
        return frame.background
    k = surface.corners[f]
    c0 = frame.shade[b, k[0]]
    if k[0] == k[1] and k[1] == k[2]:
        return c0
    c1 = frame.shade[b, k[1]]
    c2 = frame.shade[b, k[2]]
    if (frame.facing[b, f] & NARROW) != 0:
        n = lengthwise(surface, frame, b, f, x, y)
        return (c0 + c1 + c2) / 3.0 + n.s * (share_of(n, 0) * c0 + share_of(n, 1) * c1 + share_of(n, 2) * c2)
    w = weights(frame.setup[b, f], x, y)
    return (c0 * w[0] + c1 * w[1] + c2 * w[2]) / (w[0] + w[1] + w[2])


@wp.func
def inverse_depth_of(surface: Surface, frame: Frame, b: int, f: int, x: float, y: float) -> float:
    """1/z of a face, 0 of the background, at a point."""
    if f < 0:
        return 0.0
    if (frame.facing[b, f] & NARROW) != 0:
        n = lengthwise(surface, frame, b, f, x, y)
        return (n.p0[2] + n.p1[2] + n.p2[2]) / 3.0 + n.s * along_median(n, n.p0[2], n.p1[2], n.p2[2])
    w = weights(frame.setup[b, f], x, y)
    return w[0] + w[1] + w[2]


@wp.func
def shared_vector(t: Setup, g: wp.vec3) -> wp.vec3:
    """M^-T g: the vector that, times -w_k, is the gradient by h_k when g is the gradient by w."""
    return wp.vec3(
        g[0] * t[0] + g[1] * t[3] + g[2] * t[6],
        g[0] * t[1] + g[1] * t[4] + g[2] * t[7],
        g[0] * t[2] + g[1] * t[5] + g[2] * t[8],
    )


@wp.func
def add_vertex(g_h: wp.array2d(dtype=wp.vec3), b: int, v: int, g: wp.vec3, t: Setup):
    """Adds a gradient by h about the face's origin as one by h."""
    wp.atomic_add(g_h, b, v, wp.vec3(g[0], g[1], g[2] - t[9] * g[0] - t[10] * g[1]))


@wp.func
def add_pixel(g_h: wp.array2d(dtype=wp.vec3), b: int, v: int, p: wp.vec3, g: wp.vec3):
    """Adds a gradient by `pixel` (x, y, 1/z) as one by h."""
    wp.atomic_add(g_h, b, v, p[2] * wp.vec3(g[0], g[1], -(g[0] * p[0] + g[1] * p[1] + g[2] * p[2])))


@wp.func
def pull_back_narrow(
    surface: Surface, frame: Frame, b: int, f: int, want: int, x: float, y: float, g: wp.vec3, g_iz: float,
    g_h: wp.array2d(dtype=wp.vec3), g_shade: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """`pull_back_face` of a narrow one."""
    n = lengthwise(surface, frame, b, f, x, y)
    k = surface.corners[f]
    v = surface.faces[f]
    for j in range(3):
        wp.atomic_add(g_shade, b, k[j], (1.0 / 3.0 + n.s * share_of(n, j)) * g)
    if (want & VERTICES) == 0:
        return
    c0 = wp.dot(g, frame.shade[b, k[0]])
    c1 = wp.dot(g, frame.shade[b, k[1]])
    c2 = wp.dot(g, frame.shade[b, k[2]])
    g_s = along_median(n, c0, c1, c2) + g_iz * along_median(n, n.p0[2], n.p1[2], n.p2[2])
    scale = g_s / wp.length_sq(n.median)
    g_middle = -scale / 3.0 * n.median
    g_median = scale * (n.d - 2.0 * n.s * n.median)
    for j in range(3):
        share = share_of(n, j)
        g_p = g_middle + share * g_median
        p = wp.where(j == 0, n.p0, wp.where(j == 1, n.p1, n.p2))
        add_pixel(g_h, b, v[j], p, wp.vec3(g_p[0], g_p[1], (1.0 / 3.0 + n.s * share) * g_iz))


@wp.func
def pull_back_face(
    surface: Surface, frame: Frame, b: int, f: int, want: int, x: float, y: float, g: wp.vec3, g_iz: float,
    g_h: wp.array2d(dtype=wp.vec3), g_shade: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """Adjoint of `color_of` and `inverse_depth_of`, from their gradients g and g_iz. `want`: bits VERTICES, CORNERS."""
    k = surface.corners[f]
    one_colour = k[0] == k[1] and k[1] == k[2]
    if one_colour and g_iz == 0.0:
        wp.atomic_add(g_shade, b, k[0], g)
        return
    if (frame.facing[b, f] & NARROW) != 0:
        pull_back_narrow(surface, frame, b, f, want, x, y, g, g_iz, g_h, g_shade)
        return
    t = frame.setup[b, f]
    w = weights(t, x, y)
    z = 1.0 / (w[0] + w[1] + w[2])
    e = wp.vec3()  # gradient by w: through the colour, and through 1/z
    if one_colour:
        wp.atomic_add(g_shade, b, k[0], g)
    else:
        e = wp.vec3(wp.dot(g, frame.shade[b, k[0]]), wp.dot(g, frame.shade[b, k[1]]), wp.dot(g, frame.shade[b, k[2]])) * z
        mean = wp.dot(w, e) * z
        e -= wp.vec3(mean, mean, mean)
        for j in range(3):
            wp.atomic_add(g_shade, b, k[j], g * (w[j] * z))
    if (want & VERTICES) != 0:
        q = shared_vector(t, e + wp.vec3(g_iz, g_iz, g_iz))
        v = surface.faces[f]
        for j in range(3):
            add_vertex(g_h, b, v[j], -w[j] * q, t)
