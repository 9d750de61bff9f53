"""A picture on a surface: what it shows at a point, bilinear between the centres of its texels and repeated beyond its sides, and
the way back. A texture goes row by row; (u, v) = (0, 0) is its first row's first corner, (1, 1) its last row's last: v goes down,
as in glTF and not as in OBJ. There are no coarser copies of it."""

# mypy: ignore-errors

import warp as wp

from samrl.model.render.kernels.types import Frames, Surfaces

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func
def has_texture(surface: Surfaces) -> bool:
    return surface[0].uv.shape[0] > 0


@wp.func
def uv_at(surface: Surfaces, f: int, shares: wp.vec3) -> wp.vec2:
    """Where in the texture a point of a face lies, by its corners' shares in it."""
    uv = surface[0].uv
    return shares[0] * uv[3 * f] + shares[1] * uv[3 * f + 1] + shares[2] * uv[3 * f + 2]


@wp.func
def repeated(i: int, n: int) -> int:
    """i modulo n, in [0, n) for every i, as large as it may be."""
    r = i % n
    return wp.where(r < 0, r + n, r)


@wp.func
def following(i: int, n: int) -> int:
    return wp.where(i + 1 == n, 0, i + 1)


@wp.func
def four_texels(frame: Frames, b: int, x: float, y: float) -> wp.vec4i:
    """Indices of the texels around (x, y), counted from the first one's centre: this one, right, below, right below."""
    w = frame[b].texture_width
    h = frame[b].texture_height
    i = repeated(int(wp.floor(x)), w)
    j = repeated(int(wp.floor(y)), h)
    row = w * j
    below = w * following(j, h)
    return wp.vec4i(row + i, row + following(i, w), below + i, below + following(i, w))


@wp.func
def texture_at(frame: Frames, b: int, uv: wp.vec2) -> wp.vec3:
    x = uv[0] * float(frame[b].texture_width) - 0.5
    y = uv[1] * float(frame[b].texture_height) - 0.5
    n = four_texels(frame, b, x, y)
    s = x - wp.floor(x)
    t = y - wp.floor(y)
    c = frame[b].texture
    return (1.0 - t) * ((1.0 - s) * c[n[0]] + s * c[n[1]]) + t * ((1.0 - s) * c[n[2]] + s * c[n[3]])


@wp.func
def pull_back_texture(frame: Frames, b: int, uv: wp.vec2, g: wp.vec3) -> wp.vec2:
    """Adjoint of `texture_at`: adds to the texels' gradient, if it is wanted, and returns that by uv."""
    w = float(frame[b].texture_width)
    h = float(frame[b].texture_height)
    x = uv[0] * w - 0.5
    y = uv[1] * h - 0.5
    n = four_texels(frame, b, x, y)
    s = x - wp.floor(x)
    t = y - wp.floor(y)
    g_texture = frame[b].g_texture
    if g_texture.shape[0] > 0:
        wp.atomic_add(g_texture, n[0], (1.0 - t) * (1.0 - s) * g)
        wp.atomic_add(g_texture, n[1], (1.0 - t) * s * g)
        wp.atomic_add(g_texture, n[2], t * (1.0 - s) * g)
        wp.atomic_add(g_texture, n[3], t * s * g)
    c = frame[b].texture
    by_x = (1.0 - t) * (c[n[1]] - c[n[0]]) + t * (c[n[3]] - c[n[2]])
    by_y = (1.0 - s) * (c[n[2]] - c[n[0]]) + s * (c[n[3]] - c[n[1]])
    return wp.vec2(w * wp.dot(g, by_x), h * wp.dot(g, by_y))
