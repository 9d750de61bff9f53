"""Rays against a triangle mesh, by Warp's bounding volume hierarchy."""

# mypy: ignore-errors

import warp as wp


@wp.kernel(enable_backward=False)
def cast(mesh: wp.uint64, X_SC: wp.mat44, K_inv: wp.mat33, width: int, far: float, depth: wp.array(dtype=float)):
    """Depth along the optical axis of the first face that the ray through each pixel's centre meets; 0 where there is none."""
    i = wp.tid()
    ray = K_inv * wp.vec3(float(i % width) + 0.5, float(i // width) + 0.5, 1.0)
    length = wp.length(ray)
    start = wp.transform_point(X_SC, wp.vec3(0.0, 0.0, 0.0))
    hit = wp.mesh_query_ray(mesh, start, wp.transform_vector(X_SC, ray / length), far)
    if hit.result:
        depth[i] = hit.t / length


@wp.kernel(enable_backward=False)
def mark(mesh: wp.uint64, X_SC: wp.mat44, K_inv: wp.mat33, width: int, far: float, hit: wp.array(dtype=int)):
    """Set 1 for each face that the ray through some pixel's centre meets first."""
    i = wp.tid()
    ray = wp.normalize(K_inv * wp.vec3(float(i % width) + 0.5, float(i // width) + 0.5, 1.0))
    start = wp.transform_point(X_SC, wp.vec3(0.0, 0.0, 0.0))
    met = wp.mesh_query_ray(mesh, start, wp.transform_vector(X_SC, ray), far)
    if met.result:
        hit[met.face] = 1
