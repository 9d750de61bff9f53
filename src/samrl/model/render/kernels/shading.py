"""What a face shows at a point of the image, its colour and its 1/z, and the way back to its vertices and corners.

Both are interpolated with w_k = (barycentric k) / z. For a loss gradient g by the weights, dw = -M^-1 dM w makes the gradient
by h_k equal to -w_k times one vector, M^-T g, that the three vertices share.

Across a narrow face that slope is as steep as the face is narrow, and what pixels see of it is chance. There both are linear
along the longest median and constant across, with the same mean, and the edges beside it carry the rest, as jumps.
"""

# mypy: ignore-errors
# ruff: noqa: UP018, SIM102 - Warp: float(0.0) declares a variable that a loop may change

import warp as wp

from samrl.model.render.kernels.types import DEGENERATE, NARROW, TIP, VERTICES, Frames, Setup, Surfaces, weights

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func
def lengthwise(frame: Frames, b: int, f: int, x: float, y: float) -> float:
    """How far along a narrow face's median a point lies, from the face's middle, in shares of the median."""
    m = frame[b].median[f]
    return (x - m[0]) * m[2] + (y - m[1]) * m[3]


@wp.func
def share_of(seen: int, k: int) -> float:
    """What vertex k of a narrow face has in its median, and in the change of a value along it; `seen`: its word in `facing`."""
    return wp.where(seen / TIP == k, 1.0, -0.5)


@wp.func
def pixel(h: wp.vec3) -> wp.vec3:
    return wp.vec3(h[0], h[1], 1.0) / h[2]


@wp.func
def fold_shares(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float) -> wp.vec3:
    """What the corners of a face without area have in its colour at a point: linear along its longest edge."""
    v = surface[0].faces[f]
    shares = wp.vec3()
    longest = float(-1.0)
    for k in range(3):
        p = pixel(frame[b].h[v[k]])
        q = pixel(frame[b].h[v[(k + 1) % 3]])
        e = wp.vec2(q[0] - p[0], q[1] - p[1])
        if wp.length_sq(e) > longest:
            longest = wp.length_sq(e)
            u = wp.clamp(((x - p[0]) * e[0] + (y - p[1]) * e[1]) / wp.max(longest, 1.0e-12), 0.0, 1.0)
            shares = wp.vec3()
            shares[k] = 1.0 - u
            shares[(k + 1) % 3] = u
    return shares


@wp.func
def color_of(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float) -> wp.vec3:
    """Colour of a face, or of the background (-1), at a point."""
    if f < 0:
        return frame[b].background
    k = surface[0].corners[f]
    c0 = frame[b].shade[k[0]]
    if k[0] == k[1] and k[1] == k[2]:
        return c0
    c1 = frame[b].shade[k[1]]
    c2 = frame[b].shade[k[2]]
    seen = frame[b].facing[f]
    if seen == DEGENERATE:
        m = fold_shares(surface, frame, b, f, x, y)
        return m[0] * c0 + m[1] * c1 + m[2] * c2
    if (seen & NARROW) != 0:
        s = lengthwise(frame, b, f, x, y)
        tip = wp.where(seen / TIP == 0, c0, wp.where(seen / TIP == 1, c1, c2))
        return (1.0 / 3.0 - 0.5 * s) * (c0 + c1 + c2) + 1.5 * s * tip
    w = weights(frame[b].setup[f], x, y)
    return (c0 * w[0] + c1 * w[1] + c2 * w[2]) / (w[0] + w[1] + w[2])


@wp.func
def inverse_depth_of(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float) -> float:
    """1/z of a face, 0 of the background, at a point."""
    if f < 0:
        return 0.0
    seen = frame[b].facing[f]
    if (seen & NARROW) != 0:
        v = surface[0].faces[f]
        s = lengthwise(frame, b, f, x, y)
        iz = float(0.0)
        for j in range(3):
            iz += (1.0 / 3.0 + s * share_of(seen, j)) / frame[b].h[v[j]][2]
        return iz
    w = weights(frame[b].setup[f], x, y)
    return w[0] + w[1] + w[2]


@wp.func
def inverse_depth_jump(surface: Surfaces, frame: Frames, b: int, inner: int, outer: int, x: float, y: float) -> float:
    """By how much 1/z is greater on the inner face: not at all if the outer one has no area."""
    if outer >= 0:
        if frame[b].facing[outer] == DEGENERATE:
            return 0.0
    return inverse_depth_of(surface, frame, b, inner, x, y) - inverse_depth_of(surface, frame, b, outer, x, y)


@wp.func
def shared_vector(t: Setup, g: wp.vec3) -> wp.vec3:
    """M^-T g: the vector that, times -w_k, is the gradient by h_k when g is the gradient by w."""
    return wp.vec3(
        g[0] * t[0] + g[1] * t[3] + g[2] * t[6],
        g[0] * t[1] + g[1] * t[4] + g[2] * t[7],
        g[0] * t[2] + g[1] * t[5] + g[2] * t[8],
    )


@wp.func
def add_vertex(frame: Frames, b: int, v: int, g: wp.vec3, t: Setup):
    """Adds a gradient by h about the face's origin as one by h."""
    wp.atomic_add(frame[b].g_h, v, wp.vec3(g[0], g[1], g[2] - t[9] * g[0] - t[10] * g[1]))


@wp.func
def add_pixel(frame: Frames, b: int, v: int, p: wp.vec3, g: wp.vec3):
    """Adds a gradient by `pixel` (x, y, 1/z) as one by h."""
    wp.atomic_add(frame[b].g_h, v, p[2] * wp.vec3(g[0], g[1], -(g[0] * p[0] + g[1] * p[1] + g[2] * p[2])))


@wp.func
def pull_back_narrow(surface: Surfaces, frame: Frames, b: int, f: int, want: int, x: float, y: float, g: wp.vec3, g_iz: float):
    """`pull_back_face` of a narrow one."""
    seen = frame[b].facing[f]
    s = lengthwise(frame, b, f, x, y)
    k = surface[0].corners[f]
    v = surface[0].faces[f]
    g_s = float(0.0)
    for j in range(3):
        wp.atomic_add(frame[b].g_shade, k[j], (1.0 / 3.0 + s * share_of(seen, j)) * g)
        if (want & VERTICES) != 0:
            g_s += share_of(seen, j) * (wp.dot(g, frame[b].shade[k[j]]) + g_iz / frame[b].h[v[j]][2])
    if (want & VERTICES) == 0:
        return
    m = frame[b].median[f]
    axis = wp.vec2(m[2], m[3])  # the median over its squared length
    d = wp.vec2(x - m[0], y - m[1])
    g_middle = -g_s / 3.0 * axis
    g_median = g_s * (wp.length_sq(axis) * d - 2.0 * s * axis)
    for j in range(3):
        share = share_of(seen, j)
        g_p = g_middle + share * g_median
        add_pixel(frame, b, v[j], pixel(frame[b].h[v[j]]), wp.vec3(g_p[0], g_p[1], (1.0 / 3.0 + s * share) * g_iz))


@wp.func
def pull_back_face(surface: Surfaces, frame: Frames, b: int, f: int, want: int, x: float, y: float, g: wp.vec3, g_iz: float):
    """Adjoint of `color_of` and `inverse_depth_of`, from their gradients g and g_iz. `want`: bits VERTICES, CORNERS."""
    k = surface[0].corners[f]
    one_colour = k[0] == k[1] and k[1] == k[2]
    if one_colour and g_iz == 0.0:
        wp.atomic_add(frame[b].g_shade, k[0], g)
        return
    seen = frame[b].facing[f]
    if seen == DEGENERATE:
        m = fold_shares(surface, frame, b, f, x, y)
        for j in range(3):
            wp.atomic_add(frame[b].g_shade, k[j], m[j] * g)
        return
    if (seen & NARROW) != 0:
        pull_back_narrow(surface, frame, b, f, want, x, y, g, g_iz)
        return
    t = frame[b].setup[f]
    w = weights(t, x, y)
    z = 1.0 / (w[0] + w[1] + w[2])
    e = wp.vec3()  # gradient by w: through the colour, and through 1/z
    if one_colour:
        wp.atomic_add(frame[b].g_shade, k[0], g)
    else:
        e = wp.vec3(wp.dot(g, frame[b].shade[k[0]]), wp.dot(g, frame[b].shade[k[1]]), wp.dot(g, frame[b].shade[k[2]])) * z
        mean = wp.dot(w, e) * z
        e -= wp.vec3(mean, mean, mean)
        for j in range(3):
            wp.atomic_add(frame[b].g_shade, k[j], g * (w[j] * z))
    if (want & VERTICES) != 0:
        q = shared_vector(t, e + wp.vec3(g_iz, g_iz, g_iz))
        v = surface[0].faces[f]
        for j in range(3):
            add_vertex(frame, b, v[j], -w[j] * q, t)
