"""Warp kernels from solids to lit, projected vertices, and back from their gradients to poses, sizes, colours and light.

Notation: G geom, L link, W world, C camera. A projected vertex is homogeneous, h = (fx x + cx z, fy y + cy z, z) where
p_C = (x, y, z), so that (h.x / h.z, h.y / h.z) is its pixel. Arrays are (batch, …); an array
whose first size is 1 is shared by the batch. Gradients are never shared: the host sums them.
"""

# mypy: ignore-errors

import warp as wp

wp.set_module_options({"enable_backward": False, "fast_math": True})

Mat34 = wp.types.matrix(shape=(3, 4), dtype=wp.float32)
Mat36 = wp.types.matrix(shape=(3, 6), dtype=wp.float32)
Vec6 = wp.types.vector(length=6, dtype=wp.float32)

UNBOUNDED_PLANE = wp.constant(2.0)  # half-length that is drawn of a plane of size zero [m]
SHADOW_EDGE = wp.constant(0.05)  # width of the soft corner of the lighting law, in cosine


@wp.struct
class Solids:
    """Shapes of a scene's geoms. T (V), normals (C), part_of_vertex (V), part_of_corner (C), vertex_start and corner_start
    (P + 1), link (P), is_plane (P)."""

    T: wp.array(dtype=Mat36)
    normals: wp.array(dtype=wp.vec3)
    part_of_vertex: wp.array(dtype=int)
    part_of_corner: wp.array(dtype=int)
    vertex_start: wp.array(dtype=int)
    corner_start: wp.array(dtype=int)
    link: wp.array(dtype=int)
    is_plane: wp.array(dtype=int)


@wp.func
def shared(b: int, size: int) -> int:
    """Index into an array that has one entry for all, or one for each, of the batch."""
    return wp.min(b, size - 1)


@wp.func
def rotation(X: wp.mat44) -> wp.mat33:
    return wp.mat33(X[0, 0], X[0, 1], X[0, 2], X[1, 0], X[1, 1], X[1, 2], X[2, 0], X[2, 1], X[2, 2])


@wp.func
def position(X: wp.mat44) -> wp.vec3:
    return wp.vec3(X[0, 3], X[1, 3], X[2, 3])


@wp.func
def intrinsics(K: wp.vec4) -> wp.mat33:
    return wp.mat33(K[0], 0.0, K[2], 0.0, K[1], K[3], 0.0, 0.0, 1.0)


@wp.func
def drawn_size(size: Vec6, is_plane: int) -> Vec6:
    if is_plane != 0 and size[0] <= 0.0:
        return Vec6(UNBOUNDED_PLANE, UNBOUNDED_PLANE, 0.0, 0.0, 0.0, 0.0)
    return size


@wp.func
def soft_positive(x: float) -> float:
    """max(0, x) with its corner rounded: smooth, never zero, right to SHADOW_EDGE/2 at most."""
    return 0.5 * (x + wp.sqrt(x * x + SHADOW_EDGE * SHADOW_EDGE))


@wp.func
def soft_positive_slope(x: float) -> float:
    return 0.5 * (1.0 + x / wp.sqrt(x * x + SHADOW_EDGE * SHADOW_EDGE))


@wp.kernel
def project_solids(
    first: int, solids: Solids,
    X_WL: wp.array2d(dtype=wp.mat44), X_WC: wp.array(dtype=wp.mat44), K: wp.array(dtype=wp.vec4),
    geom_p: wp.array2d(dtype=wp.vec3), geom_R: wp.array2d(dtype=wp.mat33), geom_size: wp.array2d(dtype=Vec6),
    h: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """(batch, V): sizes -> vertex in G -> L -> W -> C -> h."""
    i, v = wp.tid()
    b = first + i
    g = solids.part_of_vertex[v]
    X_L = X_WL[shared(b, X_WL.shape[0]), solids.link[g]]
    X_C = X_WC[shared(b, X_WC.shape[0])]
    p_G = solids.T[v] * drawn_size(geom_size[shared(b, geom_size.shape[0]), g], solids.is_plane[g])
    p_L = geom_R[shared(b, geom_R.shape[0]), g] * p_G + geom_p[shared(b, geom_p.shape[0]), g]
    p_W = rotation(X_L) * p_L + position(X_L)
    p_C = wp.transpose(rotation(X_C)) * (p_W - position(X_C))
    h[b, v] = intrinsics(K[shared(b, K.shape[0])]) * p_C


@wp.kernel
def light_solids(
    first: int, solids: Solids,
    X_WL: wp.array2d(dtype=wp.mat44), geom_R: wp.array2d(dtype=wp.mat33), color: wp.array2d(dtype=wp.vec3),
    light_direction: wp.array(dtype=wp.vec3), ambient: wp.array(dtype=wp.vec3), diffuse: wp.array(dtype=wp.vec3),
    shade: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """(batch, C): Lambert, shade = color * (ambient + diffuse * max(0, n · l)), its corner rounded; not clamped at 1."""
    i, c = wp.tid()
    b = first + i
    g = solids.part_of_corner[c]
    l = wp.normalize(light_direction[shared(b, light_direction.shape[0])])
    R_WL = rotation(X_WL[shared(b, X_WL.shape[0]), solids.link[g]])
    n = R_WL * (geom_R[shared(b, geom_R.shape[0]), g] * solids.normals[c])
    lit = diffuse[shared(b, diffuse.shape[0])] * soft_positive(wp.dot(n, l))
    shade[b, c] = wp.cw_mul(color[shared(b, color.shape[0]), g], ambient[shared(b, ambient.shape[0])] + lit)


@wp.func
def pose_gradient(R: wp.mat33, p: wp.vec3) -> wp.mat44:
    """The upper twelve entries of a pose's gradient. It is added atomically: host threads never share a batch entry, devices
    do."""
    return wp.mat44(
        R[0, 0], R[0, 1], R[0, 2], p[0], R[1, 0], R[1, 1], R[1, 2], p[1], R[2, 0], R[2, 1], R[2, 2], p[2], 0.0, 0.0, 0.0, 0.0
    )


@wp.kernel
def pull_back_vertices(
    first: int, solids: Solids, size_wanted: int,
    X_WL: wp.array2d(dtype=wp.mat44), X_WC: wp.array(dtype=wp.mat44), K: wp.array(dtype=wp.vec4),
    geom_p: wp.array2d(dtype=wp.vec3), geom_R: wp.array2d(dtype=wp.mat33), geom_size: wp.array2d(dtype=Vec6),
    g_h: wp.array2d(dtype=wp.vec3),
    g_X_WL: wp.array2d(dtype=wp.mat44), g_X_WC: wp.array(dtype=wp.mat44), g_K: wp.array(dtype=wp.vec4),
    g_geom_p: wp.array2d(dtype=wp.vec3), g_geom_R: wp.array2d(dtype=wp.mat33), g_geom_size: wp.array2d(dtype=Vec6),
):  # fmt: skip
    """(batch, P): adjoint of `project_solids`. All that a part's vertices have in common follows from the one 3 × 4 moment
    sum of g_h ⊗ (p_G, 1), so the loop over vertices does little else."""
    i, g = wp.tid()
    b = first + i
    link = solids.link[g]
    size = drawn_size(geom_size[shared(b, geom_size.shape[0]), g], solids.is_plane[g])
    X_L = X_WL[shared(b, X_WL.shape[0]), link]
    X_C = X_WC[shared(b, X_WC.shape[0])]
    k = K[shared(b, K.shape[0])]
    p_LG = geom_p[shared(b, geom_p.shape[0]), g]
    R_LG = geom_R[shared(b, geom_R.shape[0]), g]
    R_WL = rotation(X_L)
    R_WC = rotation(X_C)
    R_WG = R_WL * R_LG
    R_hG = intrinsics(k) * wp.transpose(R_WC) * R_WG
    M = wp.mat33()  # sum of g_h ⊗ p_G
    m = wp.vec3()  # sum of g_h
    g_size = Vec6()
    for v in range(solids.vertex_start[g], solids.vertex_start[g + 1]):
        gv = g_h[b, v]
        T = solids.T[v]
        m += gv
        M += wp.outer(gv, T * size)
        if size_wanted != 0:
            g_size += wp.transpose(T) * (wp.transpose(R_hG) * gv)
    if wp.length_sq(m) + wp.ddot(M, M) == 0.0:
        return
    if size_wanted != 0:
        g_geom_size[b, g] = g_size
    # camera: h = intrinsics p_C, p_C = R_WC^T (p_W - p_WC)
    p_C0 = wp.transpose(R_WC) * (R_WL * p_LG + position(X_L) - position(X_C))
    R_CG = wp.transpose(R_WC) * R_WG
    along = M * wp.transpose(R_CG) + wp.outer(m, p_C0)  # sum of g_h ⊗ p_C
    wp.atomic_add(g_K, b, wp.vec4(along[0, 0], along[1, 1], along[0, 2], along[1, 2]))
    to_C = wp.transpose(intrinsics(k))
    m_C = to_C * m
    M_C = to_C * along  # sum of g_p_C ⊗ p_C
    m_W = R_WC * m_C
    wp.atomic_add(g_X_WC, b, pose_gradient(R_WC * wp.transpose(M_C), -m_W))  # dp_C = dR^T R p_C
    # link and geom: p_W = R_WL (R_LG p_G + p_LG) + p_WL
    M_W = R_WC * (to_C * M)  # sum of g_p_W ⊗ p_G
    wp.atomic_add(g_X_WL, b, link, pose_gradient(M_W * wp.transpose(R_LG) + wp.outer(m_W, p_LG), m_W))
    wp.atomic_add(g_geom_R, b, g, wp.transpose(R_WL) * M_W)
    g_geom_p[b, g] = wp.transpose(R_WL) * m_W


@wp.kernel
def pull_back_shade(
    first: int, solids: Solids,
    X_WL: wp.array2d(dtype=wp.mat44), geom_R: wp.array2d(dtype=wp.mat33), color: wp.array2d(dtype=wp.vec3),
    light_direction: wp.array(dtype=wp.vec3), ambient: wp.array(dtype=wp.vec3), diffuse: wp.array(dtype=wp.vec3),
    g_shade: wp.array2d(dtype=wp.vec3),
    g_X_WL: wp.array2d(dtype=wp.mat44), g_geom_R: wp.array2d(dtype=wp.mat33), g_color: wp.array2d(dtype=wp.vec3),
    g_light_direction: wp.array(dtype=wp.vec3), g_ambient: wp.array(dtype=wp.vec3), g_diffuse: wp.array(dtype=wp.vec3),
):  # fmt: skip
    """(batch, P): adjoint of `light_solids`."""
    i, g = wp.tid()
    b = first + i
    link = solids.link[g]
    direction = light_direction[shared(b, light_direction.shape[0])]
    l = wp.normalize(direction)
    R_WL = rotation(X_WL[shared(b, X_WL.shape[0]), link])
    R_LG = geom_R[shared(b, geom_R.shape[0]), g]
    albedo = color[shared(b, color.shape[0]), g]
    amb = ambient[shared(b, ambient.shape[0])]
    dif = diffuse[shared(b, diffuse.shape[0])]
    l_G = wp.transpose(R_LG) * (wp.transpose(R_WL) * l)
    total = wp.vec3()  # sum of g_shade
    lit = wp.vec3()  # sum of g_shade * soft_positive(n · l)
    turn = wp.vec3()  # sum of the gradient by n · l, times n_G
    for c in range(solids.corner_start[g], solids.corner_start[g + 1]):
        gc = g_shade[b, c]
        n = solids.normals[c]
        cosine = wp.dot(n, l_G)
        total += gc
        lit += gc * soft_positive(cosine)
        turn += n * (wp.dot(gc, wp.cw_mul(albedo, dif)) * soft_positive_slope(cosine))
    g_color[b, g] = wp.cw_mul(total, amb) + wp.cw_mul(lit, dif)
    wp.atomic_add(g_ambient, b, wp.cw_mul(total, albedo))
    wp.atomic_add(g_diffuse, b, wp.cw_mul(lit, albedo))
    g_l = R_WL * (R_LG * turn)
    wp.atomic_add(g_light_direction, b, (g_l - l * wp.dot(l, g_l)) / wp.length(direction))
    wp.atomic_add(g_X_WL, b, link, pose_gradient(wp.outer(l, R_LG * turn), wp.vec3()))
    wp.atomic_add(g_geom_R, b, g, wp.outer(wp.transpose(R_WL) * l, turn))


@wp.kernel
def project_points(
    first: int, p_W: wp.array2d(dtype=wp.vec3), X_WC: wp.array(dtype=wp.mat44), K: wp.array(dtype=wp.vec4),
    h: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """(batch, V): vertices in the world -> h."""
    i, v = wp.tid()
    b = first + i
    X_C = X_WC[shared(b, X_WC.shape[0])]
    p_C = wp.transpose(rotation(X_C)) * (p_W[shared(b, p_W.shape[0]), v] - position(X_C))
    h[b, v] = intrinsics(K[shared(b, K.shape[0])]) * p_C


@wp.kernel
def pull_back_points(
    first: int, p_W: wp.array2d(dtype=wp.vec3), X_WC: wp.array(dtype=wp.mat44), K: wp.array(dtype=wp.vec4),
    g_h: wp.array2d(dtype=wp.vec3),
    g_p_W: wp.array2d(dtype=wp.vec3), g_X_WC: wp.array(dtype=wp.mat44), g_K: wp.array(dtype=wp.vec4),
):  # fmt: skip
    """(batch, V): adjoint of `project_points`."""
    i, v = wp.tid()
    b = first + i
    gv = g_h[b, v]
    if wp.length_sq(gv) == 0.0:
        return
    X_C = X_WC[shared(b, X_WC.shape[0])]
    k = K[shared(b, K.shape[0])]
    R_WC = rotation(X_C)
    p_C = wp.transpose(R_WC) * (p_W[shared(b, p_W.shape[0]), v] - position(X_C))
    g_p = R_WC * (wp.transpose(intrinsics(k)) * gv)
    g_p_W[b, v] = g_p
    wp.atomic_add(g_X_WC, b, pose_gradient(R_WC * wp.outer(p_C, wp.transpose(intrinsics(k)) * gv), -g_p))
    wp.atomic_add(g_K, b, wp.vec4(gv[0] * p_C[0], gv[1] * p_C[1], gv[0] * p_C[2], gv[1] * p_C[2]))
