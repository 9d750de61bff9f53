"""Signed distance from a point to a solid, in the solid's own frame: positive outside, with its gradient.

A result is a vec4 (gradient, distance). Edges are blends of half-spaces: exact near a face, at most the true distance
elsewhere, so it is never longer than a way to the surface and serves as a bound too. Blending (Quilez, "smooth minimum",
the cubic form) rounds the edge by about a sixth of its radius and has a continuous second derivative.
"""

import warp as wp

from .types import BOX, CAPSULE, CYLINDER, DISC, PLANE, SPHERE, real, vec3, vec4, vec6


@wp.func
def blend_max(a: vec4, b: vec4, radius: real):
    """Smooth maximum of two distances: the intersection of two solids."""
    x = b[3] - a[3]
    c = wp.max(real(1.0) - wp.abs(x) / radius, real(0.0))
    half = real(0.5) * c * c
    share = wp.where(x > real(0.0), real(1.0) - half, half)
    n = a * (real(1.0) - share) + b * share
    return vec4(n[0], n[1], n[2], wp.max(a[3], b[3]) + radius * c * c * c / real(6.0))


@wp.func
def blend_min(a: vec4, b: vec4, radius: real):
    """Smooth minimum of two distances: the union of two solids."""
    return -blend_max(-a, -b, radius)


@wp.func
def sign(x: real):
    """-1 or 1."""
    return wp.where(x < real(0.0), real(-1.0), real(1.0))


@wp.func
def length(x: real, y: real):
    """Length of a plane vector; the tiny number keeps the root smooth at zero."""
    return wp.sqrt(x * x + y * y + real(1.0e-16))


@wp.func
def distance_capsule(x: vec3, r: real, half: real):
    """Capsule along z; with half = 0 a sphere."""
    z = x[2] - wp.clamp(x[2], -half, half)
    n = wp.sqrt(x[0] * x[0] + x[1] * x[1] + z * z + real(1.0e-16))
    return vec4(x[0] / n, x[1] / n, z / n, n - r)


@wp.func
def distance_cylinder(x: vec3, r: real, half: real, edge: real):
    """Cylinder along z."""
    n = length(x[0], x[1])
    side = vec4(x[0] / n, x[1] / n, real(0.0), n - r)
    cap = vec4(real(0.0), real(0.0), sign(x[2]), wp.abs(x[2]) - half)
    return blend_max(side, cap, edge)


@wp.func
def distance_disc(x: vec3, r: real, half: real, rim: real):
    """Cylinder along z whose rims are rounded with radius `rim`: exact outside (Quilez, "rounded cylinder")."""
    n = length(x[0], x[1])
    out = n - (r - rim)
    up = wp.abs(x[2]) - (half - rim)
    side = vec4(x[0] / n, x[1] / n, real(0.0), out - rim)
    cap = vec4(real(0.0), real(0.0), sign(x[2]), up - rim)
    if wp.min(out, up) > real(0.0):
        d = length(out, up)
        return vec4(side[0] * out / d, side[1] * out / d, cap[2] * up / d, d - rim)
    return wp.where(out > up, side, cap)


@wp.func
def distance_box(x: vec3, a: real, b: real, c: real, edge: real):
    """Box with half-lengths a, b, c."""
    o = real(0.0)
    fx = vec4(sign(x[0]), o, o, wp.abs(x[0]) - a)
    fy = vec4(o, sign(x[1]), o, wp.abs(x[1]) - b)
    fz = vec4(o, o, sign(x[2]), wp.abs(x[2]) - c)
    return blend_max(blend_max(fx, fy, edge), fz, edge)


@wp.func
def distance_block(x: vec3, size: vec6, edge: real):
    """Box with a round hole along +z from its top, its rim chamfered by 45°; the hole is free down to its depth.

    The solid is (outside the hole's wall, outside the chamfer's cone, below the top) or (below the hole's floor), and
    within the box's other faces.
    """
    o = real(0.0)
    slope = real(0.7071067811865476)
    n = length(x[0], x[1])
    rx = x[0] / n
    ry = x[1] / n
    up = x[2] - size[2]
    wall = vec4(-rx, -ry, o, size[3] - n)
    cone = vec4(-rx * slope, -ry * slope, slope, (size[3] + size[5] - n + up) * slope)
    top = vec4(o, o, real(1.0), up)
    floor = vec4(o, o, real(1.0), up + size[4])
    solid = blend_min(blend_max(blend_max(wall, cone, edge), top, edge), floor, edge)
    fx = vec4(sign(x[0]), o, o, wp.abs(x[0]) - size[0])
    fy = vec4(o, sign(x[1]), o, wp.abs(x[1]) - size[1])
    bottom = vec4(o, o, real(-1.0), -x[2] - size[2])
    return blend_max(blend_max(blend_max(solid, fx, edge), fy, edge), bottom, edge)


@wp.func
def distance(kind: int, x: vec3, size: vec6, edge: real):
    """(gradient, distance) from the point x [m], in the geom's frame, to a geom; size as in Params.geom_size."""
    if kind == PLANE:
        return vec4(real(0.0), real(0.0), real(1.0), x[2])
    if kind == SPHERE:
        return distance_capsule(x, size[0], real(0.0))
    if kind == CAPSULE:
        return distance_capsule(x, size[0], size[1])
    if kind == CYLINDER:
        return distance_cylinder(x, size[0], size[1], edge)
    if kind == DISC:
        return distance_disc(x, size[0], size[1], size[2])
    if kind == BOX:
        return distance_box(x, size[0], size[1], size[2], edge)
    return distance_block(x, size, edge)


@wp.func
def gap(kind: int, x: vec3, size: vec6):
    """Distance with sharp edges and no gradient: cheap, at most a sixth of the edge radius above `distance`."""
    if kind == PLANE:
        return x[2]
    if kind == SPHERE:
        return wp.length(x) - size[0]
    if kind == CAPSULE:
        z = x[2] - wp.clamp(x[2], -size[1], size[1])
        return wp.sqrt(x[0] * x[0] + x[1] * x[1] + z * z) - size[0]
    if kind == CYLINDER:
        return wp.max(wp.sqrt(x[0] * x[0] + x[1] * x[1]) - size[0], wp.abs(x[2]) - size[1])
    if kind == DISC:
        out = wp.sqrt(x[0] * x[0] + x[1] * x[1]) - (size[0] - size[2])
        above = wp.abs(x[2]) - (size[1] - size[2])
        a = wp.max(out, real(0.0))
        b = wp.max(above, real(0.0))
        return wp.sqrt(a * a + b * b) + wp.min(wp.max(out, above), real(0.0)) - size[2]
    sides = wp.max(wp.abs(x[0]) - size[0], wp.abs(x[1]) - size[1])
    if kind == BOX:
        return wp.max(sides, wp.abs(x[2]) - size[2])
    up = x[2] - size[2]
    wall = size[3] - wp.sqrt(x[0] * x[0] + x[1] * x[1])
    cone = (wall + size[5] + up) * real(0.7071067811865476)
    solid = wp.min(wp.max(wp.max(wall, cone), up), up + size[4])
    return wp.max(wp.max(solid, sides), -x[2] - size[2])


@wp.func
def normal(d: vec4):
    """Unit vector along the gradient; in blends the gradient is shorter than one."""
    n = vec3(d[0], d[1], d[2])
    return n / wp.sqrt(wp.dot(n, n) + real(1.0e-16))
