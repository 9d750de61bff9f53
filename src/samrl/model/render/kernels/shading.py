"""What a face shows at a point of the image, its colour and its 1/z, and the way back to its vertices and corners.

Both are interpolated with w_k = (barycentric k) / z. For a loss gradient g by the weights, dw = -M^-1 dM w makes the gradient
by h_k equal to -w_k times one vector, M^-T g, that the three vertices share.

Across a narrow face that slope is as steep as the face is narrow, and what pixels see of it is chance. There both are linear on
the screen, and the slope is damped: with q_k the corners' pixels from their mean, share k is 1/3 + q_k · D (p - mean), where
D = (sum of q q^T + DAMPING)^-1. Along the face this is nearly interpolation, across it nearly constant, and the mean is the same;
the edges beside it carry the rest, as jumps.
"""

# mypy: ignore-errors
# ruff: noqa: UP018, SIM102 - Warp: float(0.0) declares a variable that a loop may change

import warp as wp

from samrl.model.render.kernels.texture import has_texture, pull_back_texture, texture_at, uv_at
from samrl.model.render.kernels.types import (
    DEGENERATE,
    NARROW,
    VERTICES,
    Frames,
    Narrow,
    Setup,
    Surfaces,
    has_one_colour,
    weights,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func
def pixel(h: wp.vec3) -> wp.vec3:
    return wp.vec3(h[0], h[1], 1.0) / h[2]


@wp.func
def from_middle(frame: Frames, b: int, m: Narrow, v: int) -> wp.vec2:
    """A vertex's pixel from a narrow face's middle."""
    h = frame[b].h[v]
    return wp.vec2(h[0] / h[2] - m[0], h[1] / h[2] - m[1])


@wp.func
def damped(m: Narrow, v: wp.vec2) -> wp.vec2:
    """D v of a narrow face."""
    return wp.vec2(m[2] * v[0] + m[3] * v[1], m[3] * v[0] + m[4] * v[1])


@wp.func
def inverse_depths(surface: Surfaces, frame: Frames, b: int, f: int) -> wp.vec3:
    """1/z of a face's corners."""
    v = surface[0].faces[f]
    return wp.vec3(1.0 / frame[b].h[v[0]][2], 1.0 / frame[b].h[v[1]][2], 1.0 / frame[b].h[v[2]][2])


@wp.func
def narrow_shares(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float) -> wp.vec3:
    m = frame[b].narrow[f]
    v = surface[0].faces[f]
    e = damped(m, wp.vec2(x - m[0], y - m[1]))
    shares = wp.vec3()
    for k in range(3):
        shares[k] = 1.0 / 3.0 + wp.dot(from_middle(frame, b, m, v[k]), e)
    return shares


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
def shares_at(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float) -> wp.vec3:
    """What the corners of a face have in its colour at a point."""
    seen = frame[b].facing[f]
    if seen == DEGENERATE:
        return fold_shares(surface, frame, b, f, x, y)
    w = wp.vec3()
    if (seen & NARROW) != 0:
        w = wp.cw_mul(narrow_shares(surface, frame, b, f, x, y), inverse_depths(surface, frame, b, f))
    else:
        w = weights(frame[b].setup[f], x, y)
    return w / (w[0] + w[1] + w[2])


@wp.func
def light_at(surface: Surfaces, frame: Frames, b: int, f: int, shares: wp.vec3) -> wp.vec3:
    """What is lit, before the texture."""
    k = surface[0].corners[f]
    return shares[0] * frame[b].shade[k[0]] + shares[1] * frame[b].shade[k[1]] + shares[2] * frame[b].shade[k[2]]


@wp.func
def color_of(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float) -> wp.vec3:
    """Colour of a face, or of the background (-1), at a point."""
    if f < 0:
        return frame[b].background
    if has_one_colour(surface, f):
        return frame[b].shade[surface[0].corners[f][0]]
    shares = shares_at(surface, frame, b, f, x, y)
    light = light_at(surface, frame, b, f, shares)
    if has_texture(surface):
        return wp.cw_mul(light, texture_at(frame, b, uv_at(surface, f, shares)))
    return light


@wp.func
def pull_back_color(surface: Surfaces, frame: Frames, b: int, f: int, shares: wp.vec3, g: wp.vec3) -> wp.vec3:
    """Adds a colour's gradient to corners and texture, and returns that by the shares, as if these were free."""
    by_light = g
    by_uv = wp.vec2()
    if has_texture(surface):
        uv = uv_at(surface, f, shares)
        by_light = wp.cw_mul(g, texture_at(frame, b, uv))
        by_uv = pull_back_texture(frame, b, uv, wp.cw_mul(g, light_at(surface, frame, b, f, shares)))
    k = surface[0].corners[f]
    by_share = wp.vec3()
    for j in range(3):
        wp.atomic_add(frame[b].g_shade, k[j], shares[j] * by_light)
        by_share[j] = wp.dot(by_light, frame[b].shade[k[j]])
        if has_texture(surface):
            by_share[j] += wp.dot(by_uv, surface[0].uv[3 * f + j])
    return by_share


@wp.func
def inverse_depth_of(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float) -> float:
    """1/z of a face, 0 of the background, at a point."""
    if f < 0:
        return 0.0
    seen = frame[b].facing[f]
    if (seen & NARROW) != 0:
        return wp.dot(narrow_shares(surface, frame, b, f, x, y), inverse_depths(surface, frame, b, f))
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
    izs = inverse_depths(surface, frame, b, f)
    shares = narrow_shares(surface, frame, b, f, x, y)
    iz = wp.dot(shares, izs)
    in_color = wp.cw_mul(shares, izs) / iz
    by_color = pull_back_color(surface, frame, b, f, in_color, g)
    if (want & VERTICES) == 0:
        return
    m = frame[b].narrow[f]
    v = surface[0].faces[f]
    e = damped(m, wp.vec2(x - m[0], y - m[1]))
    rest = g_iz - wp.dot(by_color, in_color) / iz
    by_share = wp.vec3()
    total = wp.vec2()
    for j in range(3):
        by_share[j] = izs[j] * (by_color[j] / iz + rest)
        total += by_share[j] * from_middle(frame, b, m, v[j])
    r = damped(m, total)  # gradient by the point
    mean = (r + (by_share[0] + by_share[1] + by_share[2]) * e) / 3.0
    for j in range(3):
        q = from_middle(frame, b, m, v[j])
        g_p = by_share[j] * e - wp.dot(q, e) * r - wp.dot(q, r) * e - mean
        g_w = shares[j] * (by_color[j] / iz + rest)
        add_pixel(frame, b, v[j], pixel(frame[b].h[v[j]]), wp.vec3(g_p[0], g_p[1], g_w))


@wp.func
def pull_back_face(surface: Surfaces, frame: Frames, b: int, f: int, want: int, x: float, y: float, g: wp.vec3, g_iz: float):
    """Adjoint of `color_of` and `inverse_depth_of`, from their gradients g and g_iz. `want`: bits VERTICES, CORNERS."""
    flat = has_one_colour(surface, f)
    if flat and g_iz == 0.0:
        wp.atomic_add(frame[b].g_shade, surface[0].corners[f][0], g)
        return
    seen = frame[b].facing[f]
    if (seen & NARROW) != 0:
        pull_back_narrow(surface, frame, b, f, want, x, y, g, g_iz)
        return
    shares = shares_at(surface, frame, b, f, x, y)
    by_share = wp.vec3()
    if flat:
        wp.atomic_add(frame[b].g_shade, surface[0].corners[f][0], g)
    else:
        by_share = pull_back_color(surface, frame, b, f, shares, g)
    if (want & VERTICES) != 0 and seen != DEGENERATE:
        t = frame[b].setup[f]
        w = weights(t, x, y)
        z = 1.0 / (w[0] + w[1] + w[2])
        mean = wp.dot(shares, by_share)
        e = z * (by_share - wp.vec3(mean, mean, mean)) + wp.vec3(g_iz, g_iz, g_iz)  # gradient by w: through colour, and 1/z
        q = shared_vector(t, e)
        v = surface[0].faces[f]
        for j in range(3):
            add_vertex(frame, b, v[j], -w[j] * q, t)
