"""Which triangles of a mesh pass through others of it."""

# mypy: ignore-errors
# ruff: noqa: UP018, RUF046 - int(0) declares a variable that a loop may change

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func
def point(points: wp.array(dtype=wp.vec3), i: int) -> wp.vec3d:
    p = points[i]
    return wp.vec3d(wp.float64(p[0]), wp.float64(p[1]), wp.float64(p[2]))


@wp.func
def volume(a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d) -> wp.float64:
    return wp.dot(wp.cross(b - a, c - a), d - a)


@wp.func
def pierces(p: wp.vec3d, q: wp.vec3d, a: wp.vec3d, b: wp.vec3d, c: wp.vec3d) -> bool:
    """Whether the segment p q passes through triangle a b c, its edges included; ending on it is not that."""
    zero = wp.float64(0.0)
    if volume(a, b, c, p) * volume(a, b, c, q) >= zero:
        return False
    u, v, w = volume(p, q, a, b), volume(p, q, b, c), volume(p, q, c, a)
    return (u >= zero and v >= zero and w >= zero) or (u <= zero and v <= zero and w <= zero)


@wp.func
def edge_pierces(points: wp.array(dtype=wp.vec3), faces: wp.array(dtype=wp.vec3i), i: int, j: int) -> bool:
    """Whether an edge of face i, none of whose ends belong to face j, passes through face j."""
    f, g = faces[i], faces[j]
    a, b, c = point(points, g[0]), point(points, g[1]), point(points, g[2])
    for k in range(3):
        s, e = f[k], f[(k + 1) % 3]
        apart = s != g[0] and s != g[1] and s != g[2] and e != g[0] and e != g[1] and e != g[2]
        if apart and pierces(point(points, s), point(points, e), a, b, c):
            return True
    return False


@wp.kernel
def find(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), faces: wp.array(dtype=wp.vec3i), crosses: wp.array(dtype=int)):
    """(F) 1 for the faces that pass through another."""
    i = wp.tid()
    f = faces[i]
    a, b, c = points[f[0]], points[f[1]], points[f[2]]
    query = wp.mesh_query_aabb(mesh, wp.min(wp.min(a, b), c), wp.max(wp.max(a, b), c))
    j = int(0)
    while wp.mesh_query_aabb_next(query, j):
        if j > i and (edge_pierces(points, faces, i, j) or edge_pierces(points, faces, j, i)):
            crosses[i] = 1
            crosses[j] = 1
