"""Signed distance from a point to a convex mesh: the maximum over the planes of its sides.

The maximum is smoothed: d = r log(sum of exp(d_k / r)), which has derivatives of every order. Where two sides meet it lies
r log 2 above both, as much as `blend_max` with the same edge radius; between more sides, r times the logarithm of their number.
"""

import warp as wp

from .types import Model, real, vec3, vec4, vec6

_SHARE = wp.constant(0.2404491734814939)  # 1 / (6 log 2)


@wp.func
def side(m: Model, k: int, x: vec3, size: vec6):
    """(outward unit normal, distance) of the k-th side's plane from x. The solid is that of size one, stretched by `size`."""
    n = m.hull_normal[k]
    a = vec3(n[0] / size[0], n[1] / size[1], n[2] / size[2])
    length = wp.length(a)
    return vec4(a[0] / length, a[1] / length, a[2] / length, (wp.dot(a, x) - m.hull_offset[k]) / length)


@wp.func
def gap_hull(m: Model, g: int, x: vec3, size: vec6):
    """The maximum itself; no gradient."""
    top = real(-1.0e9)
    for k in range(m.hull_first[g], m.hull_first[g + 1]):
        top = wp.max(top, side(m, k, x, size)[3])
    return top


@wp.func_grad(gap_hull)
def adj_gap_hull(m: Model, g: int, x: vec3, size: vec6, adj_ret: real):
    pass


@wp.func
def frozen(x: real):
    """x, as a constant."""
    return x


@wp.func_grad(frozen)
def adj_frozen(x: real, adj_ret: real):
    pass


@wp.func
def level(m: Model, g: int, x: vec3, size: vec6, r: real):
    """The smoothed maximum; no gradient. Subtracting the maximum itself keeps the exponentials in range."""
    top = gap_hull(m, g, x, size)
    total = real(0.0)
    for k in range(m.hull_first[g], m.hull_first[g + 1]):
        total += wp.exp((side(m, k, x, size)[3] - top) / r)
    return top + r * wp.log(total)


@wp.func_grad(level)
def adj_level(m: Model, g: int, x: vec3, size: vec6, r: real, adj_ret: real):
    pass


@wp.func
def smooth_distance(m: Model, g: int, x: vec3, size: vec6, r: real):
    """The smoothed maximum with its gradient, the sum of those of d_k in shares exp((d_k - d) / r): here as a sum of terms that
    are zero and have these gradients."""
    d = level(m, g, x, size, r)
    total = real(0.0)
    for k in range(m.hull_first[g], m.hull_first[g + 1]):
        s = side(m, k, x, size)[3]
        total += frozen(wp.exp((s - d) / r)) * (s - frozen(s))
    return d + total


@wp.func
def distance_hull(m: Model, g: int, x: vec3, size: vec6, edge: real):
    """(gradient, distance). Going back, Warp does not run a loop's forward pass again: a sum may go through it as a local as long
    as nothing after the loop asks for its value, which is why shares are made with the distance and need no division by their
    sum."""
    r = edge * real(_SHARE)
    d = smooth_distance(m, g, x, size, r)
    n = vec4()
    for k in range(m.hull_first[g], m.hull_first[g + 1]):
        s = side(m, k, x, size)
        n += s * wp.exp((s[3] - d) / r)
    return vec4(n[0], n[1], n[2], d)
