"""Warp kernels of the rasterizer: z-buffer, antialiased image, and its gradient.

The image is the box-filtered mean of S × S samples a pixel. Its gradient has two terms (Li et al. 2018, "Differentiable
Monte Carlo Ray Tracing through Edge Sampling", Eq. 4): the interior, by the adjoint of interpolation, and the boundary,
the jump of colour across silhouettes and creases times the edge's motion. The boundary is integrated along every edge,
sample cell by sample cell, without noise.

Triangles are set up homogeneously (Olano and Greer 1997, "Triangle Scan Conversion using 2D Homogeneous Coordinates"): with
vertices h_k = (x z, y z, z), the weights w = [h_0 h_1 h_2]^-1 (x, y, 1) are linear in the pixel, w_k = (barycentric k) / z,
and their sum is 1/z. Nothing is clipped: a triangle that reaches behind the camera needs no special case. dw = -M^-1 dM w
gives the gradient by h_k as -w_k times one vector that the three vertices share.

Pixels (x, y) here are those of the supersampled image, (H S, W S). Faces are seen from outside only.
"""

# mypy: ignore-errors
# ruff: noqa: UP018, RUF046, SIM110 - int(0) and float(0.0) declare a variable that a loop may change

import warp as wp

wp.set_module_options({"enable_backward": False, "fast_math": True})

Setup = wp.types.vector(length=11, dtype=wp.float32)  # three planes (a, b, c) of w_k = a dx + b dy + c, and their origin
# how a face is seen: from behind, from outside, without area, from outside and narrower than a sample
BACK, FRONT, DEGENERATE, NARROW = wp.constant(0), wp.constant(1), wp.constant(2), wp.constant(5)  # NARROW & FRONT == FRONT
VERTICES, CORNERS = wp.constant(1), wp.constant(2)  # bits: what of a face wants a gradient
LOW = wp.constant(wp.int64(0xFFFFFFFF))
NARROW_WIDTH = wp.constant(2.0)  # [samples]
THIN = wp.constant(1.0e-4)  # faces and gaps narrower than this do not count [samples]
DEPTH_MARGIN = wp.constant(1.0005)  # an edge is hidden where something is nearer by this factor
ON_SURFACE = wp.constant(0.05)  # a reading may be extrapolated to the pixel's centre if 1/z changes less than this


@wp.struct
class Surface:
    """Topology: faces and corners (F); edges (E, 8) as in `meshes.Mesh`; mask bits of each face (F); the convex solid that
    each face belongs to (F), -1 for none."""

    faces: wp.array(dtype=wp.vec3i)
    corners: wp.array(dtype=wp.vec3i)
    edges: wp.array2d(dtype=int)
    bits: wp.array(dtype=int)
    convex: wp.array(dtype=int)


@wp.struct
class Frame:
    """What one forward pass leaves: h (batch, V), shade (batch, C), setup and facing (batch, F), zbuffer (batch, H S, W S);
    background colour, near distance [m], S; whether `depth` is the mean of the samples' 1/z, with the same two terms as colour,
    or the depth of the middle sample's face."""

    h: wp.array2d(dtype=wp.vec3)
    shade: wp.array2d(dtype=wp.vec3)
    setup: wp.array2d(dtype=Setup)
    facing: wp.array2d(dtype=int)
    zbuffer: wp.array3d(dtype=wp.int64)
    background: wp.vec3
    near: float
    S: int
    mean_depth: int


@wp.func
def weights(t: Setup, x: float, y: float) -> wp.vec3:
    """w_k = (barycentric k) / z at pixel (x, y)."""
    dx = x - t[9]
    dy = y - t[10]
    return wp.vec3(t[0] * dx + t[1] * dy + t[2], t[3] * dx + t[4] * dy + t[5], t[6] * dx + t[7] * dy + t[8])


@wp.func
def inverse_depth(t: Setup, x: float, y: float) -> float:
    w = weights(t, x, y)
    return w[0] + w[1] + w[2]


@wp.func
def blend(w: wp.vec3, c0: wp.vec3, c1: wp.vec3, c2: wp.vec3) -> wp.vec3:
    """Perspective-correct interpolation."""
    return (c0 * w[0] + c1 * w[1] + c2 * w[2]) / (w[0] + w[1] + w[2])


@wp.func
def face_at(zbuffer: wp.array3d(dtype=wp.int64), b: int, y: int, x: int) -> int:
    """Nearest face at a sample, -1 where there is none."""
    return int(zbuffer[b, y, x] & LOW) - 1


@wp.func
def about(h: wp.vec3, rx: float, ry: float) -> wp.vec3:
    """h with the pixel (rx, ry) as origin: keeps digits where a triangle is small and far from pixel (0, 0)."""
    return wp.vec3(h[0] - rx * h[2], h[1] - ry * h[2], h[2])


@wp.kernel
def fill(first: int, surface: Surface, frame: Frame):
    """(batch, F): sets each face up and writes the samples that it covers. A key is (bits of 1/z, face + 1), so that the
    greatest key is the nearest face: positive floats sort like their bits."""
    i, f = wp.tid()
    b = first + i
    corner = surface.faces[f]
    h0 = frame.h[b, corner[0]]
    h1 = frame.h[b, corner[1]]
    h2 = frame.h[b, corner[2]]
    frame.facing[b, f] = BACK
    far = wp.max(h0[2], wp.max(h1[2], h2[2]))
    if far < frame.near:
        return
    origin = h0
    if h1[2] == far:
        origin = h1
    if h2[2] == far:
        origin = h2
    rx = origin[0] / far
    ry = origin[1] / far
    h0 = about(h0, rx, ry)
    h1 = about(h1, rx, ry)
    h2 = about(h2, rx, ry)
    n0 = wp.cross(h1, h2)
    n1 = wp.cross(h2, h0)
    n2 = wp.cross(h0, h1)
    volume = wp.dot(h0, n0)  # twice the signed area times the depths; negative where the outside is seen
    rows = frame.zbuffer.shape[1]
    columns = frame.zbuffer.shape[2]
    left = float(0.0)
    right = float(columns)
    top = float(0.0)
    bottom = float(rows)
    seen = int(FRONT)
    whole = wp.min(h0[2], wp.min(h1[2], h2[2])) >= frame.near
    if whole:
        x0 = h0[0] / h0[2]
        x1 = h1[0] / h1[2]
        x2 = h2[0] / h2[2]
        y0 = h0[1] / h0[2]
        y1 = h1[1] / h1[2]
        y2 = h2[1] / h2[2]
        left = wp.min(x0, wp.min(x1, x2))
        right = wp.max(x0, wp.max(x1, x2))
        top = wp.min(y0, wp.min(y1, y2))
        bottom = wp.max(y0, wp.max(y1, y2))
        area = wp.abs(volume) / (h0[2] * h1[2] * h2[2])  # twice the area
        if area < THIN * (right - left + bottom - top):
            frame.facing[b, f] = DEGENERATE
            return
        long = wp.max((x1 - x0) * (x1 - x0) + (y1 - y0) * (y1 - y0), (x2 - x1) * (x2 - x1) + (y2 - y1) * (y2 - y1))
        long = wp.max(long, (x0 - x2) * (x0 - x2) + (y0 - y2) * (y0 - y2))
        if area < NARROW_WIDTH * wp.sqrt(long):
            seen = NARROW
        left += rx
        right += rx
        top += ry
        bottom += ry
    if volume >= 0.0:
        return
    frame.facing[b, f] = seen
    if right < 0.0 or bottom < 0.0 or left > float(columns) or top > float(rows):
        return
    n0 = n0 / volume
    n1 = n1 / volume
    n2 = n2 / volume
    t = Setup(n0[0], n0[1], n0[2], n1[0], n1[1], n1[2], n2[0], n2[1], n2[2], rx, ry)
    frame.setup[b, f] = t
    first_row = int(wp.ceil(wp.max(top, 0.0) - 0.5 - THIN))
    last_row = int(wp.floor(wp.min(bottom, float(rows)) - 0.5 + THIN))
    left = wp.max(left, 0.0) - rx - THIN
    right = wp.min(right, float(columns)) - rx + THIN
    # w_k >= 0, with a hair's breadth to spare so that no sample falls between two faces
    a0 = wp.where(wp.abs(n0[0]) > 1.0e-20, n0[0], 1.0e-20)
    a1 = wp.where(wp.abs(n1[0]) > 1.0e-20, n1[0], 1.0e-20)
    a2 = wp.where(wp.abs(n2[0]) > 1.0e-20, n2[0], 1.0e-20)
    c0 = n0[2] + THIN * (wp.abs(n0[0]) + wp.abs(n0[1]))
    c1 = n1[2] + THIN * (wp.abs(n1[0]) + wp.abs(n1[1]))
    c2 = n2[2] + THIN * (wp.abs(n2[0]) + wp.abs(n2[1]))
    slope = n0[0] + n1[0] + n2[0]
    key_low = wp.int64(f + 1)
    nearest = 1.0 / frame.near
    for y in range(wp.max(first_row, 0), wp.min(last_row, rows - 1) + 1):
        dy = float(y) + 0.5 - ry
        x0 = -(n0[1] * dy + c0) / a0
        x1 = -(n1[1] * dy + c1) / a1
        x2 = -(n2[1] * dy + c2) / a2
        low = wp.max(
            wp.max(left, wp.where(a0 > 0.0, x0, left)), wp.max(wp.where(a1 > 0.0, x1, left), wp.where(a2 > 0.0, x2, left))
        )
        high = wp.min(
            wp.min(right, wp.where(a0 < 0.0, x0, right)),
            wp.min(wp.where(a1 < 0.0, x1, right), wp.where(a2 < 0.0, x2, right)),
        )
        if low <= high:
            begin = wp.max(int(wp.ceil(low + rx - 0.5)), 0)
            end = wp.min(int(wp.floor(high + rx - 0.5)), columns - 1)
            base = (n0[1] + n1[1] + n2[1]) * dy + n0[2] + n1[2] + n2[2] + slope * (0.5 - rx)
            for x in range(begin, end + 1):
                iz = base + slope * float(x)
                if iz > 0.0 and iz < nearest:
                    key = (wp.int64(wp.cast(iz, wp.int32)) << wp.int64(32)) | key_low
                    if key > frame.zbuffer[b, y, x]:
                        wp.atomic_max(frame.zbuffer, b, y, x, key)


@wp.func
def is_uniform(zbuffer: wp.array3d(dtype=wp.int64), b: int, y: int, x: int, S: int) -> bool:
    """Whether all samples of a pixel show the same face."""
    f = face_at(zbuffer, b, y * S, x * S)
    for s in range(1, S * S):
        if face_at(zbuffer, b, y * S + s / S, x * S + s % S) != f:
            return False
    return True


@wp.func
def reading_point(t: Setup, y: int, x: int, S: int, uniform: bool) -> wp.vec2:
    """Where a pixel's depth is read on the face of its middle sample: at the pixel's centre, or, where other faces share
    the pixel and this one is so steep that its plane may not reach there, at the sample."""
    centre = wp.vec2((float(x) + 0.5) * float(S), (float(y) + 0.5) * float(S))
    sample = wp.vec2(float(x * S + S / 2) + 0.5, float(y * S + S / 2) + 0.5)
    iz = inverse_depth(t, sample[0], sample[1])
    if uniform or wp.abs(inverse_depth(t, centre[0], centre[1]) - iz) < ON_SURFACE * iz:
        return centre
    return sample


@wp.kernel
def resolve(
    first: int, surface: Surface, frame: Frame, face_link: wp.array(dtype=int),
    color: wp.array3d(dtype=wp.vec3), depth: wp.array3d(dtype=float), masks: wp.array4d(dtype=float),
    links: wp.array3d(dtype=int),
):  # fmt: skip
    """(batch, H): a row of the image. Where one face fills a pixel, it is interpolated once, at the centre."""
    i, y = wp.tid()
    b = first + i
    S = frame.S
    count = masks.shape[1]
    last = int(-1)
    t = Setup()
    c0 = wp.vec3()
    c1 = wp.vec3()
    c2 = wp.vec3()
    for x in range(color.shape[2]):
        samples = S * S
        if is_uniform(frame.zbuffer, b, y, x, S):
            samples = int(1)
        share = 1.0 / float(samples)
        total = wp.vec3()
        total_iz = float(0.0)
        for m in range(count):
            masks[b, m, y, x] = 0.0
        for s in range(samples):
            sy = y * S + s / S
            sx = x * S + s % S
            f = face_at(frame.zbuffer, b, sy, sx)
            if f < 0:
                total += share * frame.background
            else:
                if f != last:
                    last = f
                    t = frame.setup[b, f]
                    k = surface.corners[f]
                    c0 = frame.shade[b, k[0]]
                    c1 = frame.shade[b, k[1]]
                    c2 = frame.shade[b, k[2]]
                px = float(sx) + 0.5
                py = float(sy) + 0.5
                if samples == 1:
                    px = (float(x) + 0.5) * float(S)
                    py = (float(y) + 0.5) * float(S)
                total += share * blend(weights(t, px, py), c0, c1, c2)
                total_iz += share * inverse_depth(t, px, py)
                for m in range(count):
                    masks[b, m, y, x] = masks[b, m, y, x] + share * float((surface.bits[f] >> m) & 1)
        color[b, y, x] = total
        middle = face_at(frame.zbuffer, b, y * S + S / 2, x * S + S / 2)
        if middle < 0:
            depth[b, y, x] = 0.0
            links[b, y, x] = -1
        else:
            at = reading_point(frame.setup[b, middle], y, x, S, samples == 1)
            depth[b, y, x] = 1.0 / inverse_depth(frame.setup[b, middle], at[0], at[1])
            links[b, y, x] = face_link[middle]
        if frame.mean_depth != 0:
            depth[b, y, x] = total_iz


@wp.func
def shared_vector(t: Setup, g: wp.vec3) -> wp.vec3:
    """M^-T g: the vector that, times -w_k, is the gradient by h_k when g is the gradient by w."""
    return wp.vec3(
        g[0] * t[0] + g[1] * t[3] + g[2] * t[6],
        g[0] * t[1] + g[1] * t[4] + g[2] * t[7],
        g[0] * t[2] + g[1] * t[5] + g[2] * t[8],
    )


@wp.func
def colour_vector(t: Setup, w: wp.vec3, g: wp.vec3, c0: wp.vec3, c1: wp.vec3, c2: wp.vec3) -> wp.vec3:
    """`shared_vector` of the gradient g by the interpolated colour."""
    z = 1.0 / (w[0] + w[1] + w[2])
    e = wp.vec3(wp.dot(g, c0), wp.dot(g, c1), wp.dot(g, c2))
    mean = wp.dot(w, e) * z
    return shared_vector(t, wp.vec3(e[0] - mean, e[1] - mean, e[2] - mean) * z)


@wp.func
def add_vertex(g_h: wp.array2d(dtype=wp.vec3), b: int, v: int, g: wp.vec3, t: Setup):
    """Adds a gradient by h about the face's origin as one by h."""
    wp.atomic_add(g_h, b, v, wp.vec3(g[0], g[1], g[2] - t[9] * g[0] - t[10] * g[1]))


@wp.kernel
def pull_back_interior(
    first: int, surface: Surface, frame: Frame, wanted: wp.array(dtype=int),
    g_color: wp.array3d(dtype=wp.vec3), g_depth: wp.array3d(dtype=float), has_color: int, has_depth: int, width: int,
    g_h: wp.array2d(dtype=wp.vec3), g_shade: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """(batch, H): adjoint of `resolve` inside faces, along a row; sums are kept while the face stays the same. `wanted`
    (F): bits VERTICES, CORNERS."""
    i, y = wp.tid()
    b = first + i
    S = frame.S
    last = int(-1)
    t = Setup()
    v = wp.vec3i()
    k = wp.vec3i()
    c0 = wp.vec3()
    c1 = wp.vec3()
    c2 = wp.vec3()
    m0 = wp.vec3()  # gradients by h_0, h_1, h_2, then by the corners' shades
    m1 = wp.vec3()
    m2 = wp.vec3()
    s0 = wp.vec3()
    s1 = wp.vec3()
    s2 = wp.vec3()
    for x in range(width):
        samples = S * S
        if is_uniform(frame.zbuffer, b, y, x, S):
            samples = int(1)
        g = wp.vec3()
        if has_color != 0:
            g = g_color[b, y, x] / float(samples)
        for s in range(samples):
            sy = y * S + s / S
            sx = x * S + s % S
            f = face_at(frame.zbuffer, b, sy, sx)
            want = int(0)
            if f >= 0:
                want = wanted[f]
            if want != 0:
                if f != last:
                    if last >= 0:
                        add_vertex(g_h, b, v[0], m0, t)
                        add_vertex(g_h, b, v[1], m1, t)
                        add_vertex(g_h, b, v[2], m2, t)
                        wp.atomic_add(g_shade, b, k[0], s0)
                        wp.atomic_add(g_shade, b, k[1], s1)
                        wp.atomic_add(g_shade, b, k[2], s2)
                    last = f
                    t = frame.setup[b, f]
                    v = surface.faces[f]
                    k = surface.corners[f]
                    c0 = frame.shade[b, k[0]]
                    c1 = frame.shade[b, k[1]]
                    c2 = frame.shade[b, k[2]]
                    m0 = wp.vec3()
                    m1 = wp.vec3()
                    m2 = wp.vec3()
                    s0 = wp.vec3()
                    s1 = wp.vec3()
                    s2 = wp.vec3()
                px = float(sx) + 0.5
                py = float(sy) + 0.5
                if samples == 1:
                    px = (float(x) + 0.5) * float(S)
                    py = (float(y) + 0.5) * float(S)
                if has_color != 0:
                    w = weights(t, px, py)
                    z = 1.0 / (w[0] + w[1] + w[2])
                    s0 += g * (w[0] * z)
                    s1 += g * (w[1] * z)
                    s2 += g * (w[2] * z)
                    if (want & VERTICES) != 0 and (k[0] != k[1] or k[1] != k[2]) and frame.facing[b, f] == FRONT:
                        q = colour_vector(t, w, g, c0, c1, c2)
                        m0 -= w[0] * q
                        m1 -= w[1] * q
                        m2 -= w[2] * q
                middle = samples == 1 or s == (S / 2) * S + S / 2
                chosen = middle
                if frame.mean_depth != 0:
                    chosen = frame.facing[b, f] == FRONT or (k[0] == k[1] and k[1] == k[2])  # others: pull_back_narrow
                if has_depth != 0 and (want & VERTICES) != 0 and chosen:
                    at = wp.vec2(px, py)
                    if frame.mean_depth == 0:
                        at = reading_point(t, y, x, S, samples == 1)
                    w = weights(t, at[0], at[1])
                    slope = g_depth[b, y, x] / float(samples)
                    if frame.mean_depth == 0:
                        iz = w[0] + w[1] + w[2]
                        slope = -g_depth[b, y, x] / (iz * iz)
                    q = shared_vector(t, wp.vec3(slope, slope, slope))
                    m0 -= w[0] * q
                    m1 -= w[1] * q
                    m2 -= w[2] * q
    if last >= 0:
        add_vertex(g_h, b, v[0], m0, t)
        add_vertex(g_h, b, v[1], m1, t)
        add_vertex(g_h, b, v[2], m2, t)
        wp.atomic_add(g_shade, b, k[0], s0)
        wp.atomic_add(g_shade, b, k[1], s1)
        wp.atomic_add(g_shade, b, k[2], s2)


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
def nearest_cell(p: float, size: int) -> int:
    return wp.clamp(int(wp.floor(p)), 0, size - 1)


@wp.func
def is_hidden(over: Setup, x: float, y: float, px: float, py: float, iz: float) -> bool:
    """Whether a face seen at the sample (px, py) hides the point (x, y) at inverse depth iz: it is nearer both where it is
    seen and where its plane meets the point. A plane alone, drawn on from where it is seen, may pass before the point; and a
    floor on which an edge stands is nearer beside it."""
    limit = iz * DEPTH_MARGIN
    return inverse_depth(over, x, y) > limit and inverse_depth(over, px, py) > limit


@wp.kernel
def pull_back_narrow(
    first: int, surface: Surface, frame: Frame, wanted: wp.array(dtype=int), g_color: wp.array3d(dtype=wp.vec3),
    g_depth: wp.array3d(dtype=float), has_color: int, has_depth: int, g_h: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """(batch, F): the interior term by the vertices of round faces that are narrower than a sample. Samples meet such a face
    rarely, with a slope as large as the face is narrow: all noise. Here it is integrated along its longest edge instead,
    a step a sample, each as wide as the face is there."""
    i, f = wp.tid()
    b = first + i
    k = surface.corners[f]
    if frame.facing[b, f] != NARROW or (wanted[f] & VERTICES) == 0 or (k[0] == k[1] and k[1] == k[2]):
        return
    v = surface.faces[f]
    h0 = frame.h[b, v[0]]
    h1 = frame.h[b, v[1]]
    h2 = frame.h[b, v[2]]
    p0 = wp.vec2(h0[0], h0[1]) / h0[2]
    p1 = wp.vec2(h1[0], h1[1]) / h1[2]
    p2 = wp.vec2(h2[0], h2[1]) / h2[2]
    a = p0
    e = p1 - p0
    apex = p2 - p0
    if wp.length_sq(p2 - p1) > wp.length_sq(e):
        a = p1
        e = p2 - p1
        apex = p0 - p1
    if wp.length_sq(p0 - p2) > wp.length_sq(e):
        a = p2
        e = p0 - p2
        apex = p1 - p2
    t = frame.setup[b, f]
    c0 = frame.shade[b, k[0]]
    c1 = frame.shade[b, k[1]]
    c2 = frame.shade[b, k[2]]
    rows = frame.zbuffer.shape[1]
    columns = frame.zbuffer.shape[2]
    length = wp.length(e)
    foot = wp.clamp(wp.dot(apex, e) / (length * length), 1.0e-3, 0.999)  # of the height, along the edge
    across = apex - e * (wp.dot(apex, e) / (length * length))
    steps = wp.min(int(wp.ceil(length)), rows + columns)
    m0 = wp.vec3()
    m1 = wp.vec3()
    m2 = wp.vec3()
    met = int(0)
    for s in range(steps):
        u = (float(s) + 0.5) / float(steps)
        width = wp.min(u / foot, (1.0 - u) / (1.0 - foot))
        x = a[0] + u * e[0] + 0.5 * width * across[0]
        y = a[1] + u * e[1] + 0.5 * width * across[1]
        if x >= 0.0 and y >= 0.0 and x < float(columns) and y < float(rows):
            cx = int(x)
            cy = int(y)
            w = weights(t, x, y)
            over = face_at(frame.zbuffer, b, cy, cx)
            hidden = bool(False)
            if over >= 0 and over != f and (surface.convex[f] < 0 or surface.convex[over] != surface.convex[f]):
                hidden = is_hidden(frame.setup[b, over], x, y, float(cx) + 0.5, float(cy) + 0.5, w[0] + w[1] + w[2])
            if not hidden:
                met += 1
                share = width * wp.length(across) * length / float(steps * frame.S * frame.S)
                q = wp.vec3()
                if has_color != 0:
                    q = colour_vector(t, w, g_color[b, cy / frame.S, cx / frame.S] * share, c0, c1, c2)
                if has_depth != 0:
                    slope = g_depth[b, cy / frame.S, cx / frame.S] * share
                    q += shared_vector(t, wp.vec3(slope, slope, slope))
                m0 -= w[0] * q
                m1 -= w[1] * q
                m2 -= w[2] * q
    if met > 0:  # a face off the image has no setup
        add_vertex(g_h, b, v[0], m0, t)
        add_vertex(g_h, b, v[1], m1, t)
        add_vertex(g_h, b, v[2], m2, t)


@wp.kernel
def pull_back_edges(
    first: int, surface: Surface, frame: Frame, active: wp.array(dtype=int),
    g_color: wp.array3d(dtype=wp.vec3), g_depth: wp.array3d(dtype=float), g_masks: wp.array4d(dtype=float),
    has_color: int, has_depth: int, mask_count: int, g_h: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """(batch, active edges): integral along a silhouette or crease of (inner - outer value) · dL/dpixel, times the normal
    motion of the edge. `active`: indices of the edges that are looked at."""
    i, j = wp.tid()
    b = first + i
    e = active[j]
    va = surface.edges[e, 0]
    vb = surface.edges[e, 1]
    f1 = surface.edges[e, 2]
    f2 = surface.edges[e, 3]
    seen1 = frame.facing[b, f1]
    seen2 = BACK
    if f2 >= 0:
        seen2 = frame.facing[b, f2]
    front1 = (seen1 & FRONT) != 0
    front2 = (seen2 & FRONT) != 0
    if not front1 and not front2:
        return
    # an edge beside a face without area doubles the edge at that face's other side: of the two, the one whose other face
    # comes first is kept
    if seen1 == DEGENERATE:
        return
    ca = surface.edges[e, 4]
    cb = surface.edges[e, 5]
    inner = f1
    side = float(1.0)
    crease = bool(False)
    if front1 and front2:
        crease = True
        if ca == surface.edges[e, 6] and cb == surface.edges[e, 7]:
            return
    elif front2:
        inner = f2
        side = -1.0
        ca = surface.edges[e, 6]
        cb = surface.edges[e, 7]
    ha = frame.h[b, va]
    hb = frame.h[b, vb]
    if ha[2] < frame.near and hb[2] < frame.near:
        return
    # the part in front of the camera runs from u0 to u1 along the edge in space
    u0 = float(0.0)
    u1 = float(1.0)
    if ha[2] < frame.near:
        u0 = (frame.near - ha[2]) / (hb[2] - ha[2])
    if hb[2] < frame.near:
        u1 = (frame.near - ha[2]) / (hb[2] - ha[2])
    p = ha + u0 * (hb - ha)
    q = ha + u1 * (hb - ha)
    iz0 = 1.0 / p[2]
    iz1 = 1.0 / q[2]
    ax = p[0] * iz0
    ay = p[1] * iz0
    ex = q[0] * iz1 - ax
    ey = q[1] * iz1 - ay
    length = wp.sqrt(ex * ex + ey * ey)
    if length < THIN:
        return
    rows = frame.zbuffer.shape[1]
    columns = frame.zbuffer.shape[2]
    span = clip(ay, ey, float(rows), clip(ax, ex, float(columns), wp.vec2(0.0, 1.0)))
    if span[0] >= span[1]:
        return
    # outwards from the inner face: a face seen from outside turns clockwise on the screen, whose y points down
    nx = -side * ey / length
    ny = side * ex / length
    tx = 1.0 / wp.max(wp.abs(ex), 1.0e-20)  # parameter between two crossings of cell borders
    ty = 1.0 / wp.max(wp.abs(ey), 1.0e-20)
    bx = ax + ex * (span[0] + 1.0e-7)
    by = ay + ey * (span[0] + 1.0e-7)
    next_x = span[0] + wp.where(ex > 0.0, wp.floor(bx) + 1.0 - bx, bx - wp.floor(bx)) * tx
    next_y = span[0] + wp.where(ey > 0.0, wp.floor(by) + 1.0 - by, by - wp.floor(by)) * ty
    color_a = frame.shade[b, ca]
    color_b = frame.shade[b, cb]
    bits = surface.bits[inner]
    solid = surface.convex[inner]  # a convex solid does not hide its own edges
    pull_a = float(0.0)
    pull_b = float(0.0)
    here = span[0]
    while here < span[1]:
        there = wp.min(wp.min(next_x, next_y), span[1])
        if next_x <= next_y:
            next_x += tx
        else:
            next_y += ty
        if there > here:
            t = 0.5 * (here + there)
            piece = length * (there - here)
            x = ax + ex * t
            y = ay + ey * t
            iz = iz0 + (iz1 - iz0) * t
            weight_b = (1.0 - t) * u0 * iz0 + t * u1 * iz1  # (barycentric of b in space) / z: linear on the screen
            weight_a = iz - weight_b
            cx = nearest_cell(x, columns)
            cy = nearest_cell(y, rows)
            ox = cx
            oy = cy
            if not crease:
                ox = nearest_cell(x + 0.70710678 * nx, columns)
                oy = nearest_cell(y + 0.70710678 * ny, rows)
            outer = face_at(frame.zbuffer, b, oy, ox)
            if outer == inner and not crease:  # the edge runs between two samples of its own face: look further
                ox = nearest_cell(x + 1.5 * nx, columns)
                oy = nearest_cell(y + 1.5 * ny, rows)
                outer = face_at(frame.zbuffer, b, oy, ox)
            hidden = bool(False)
            if outer >= 0 and outer != f1 and outer != f2 and (solid < 0 or surface.convex[outer] != solid):
                hidden = is_hidden(frame.setup[b, outer], x, y, float(ox) + 0.5, float(oy) + 0.5, iz)
            if not hidden:
                outside = frame.background
                outside_iz = float(0.0)
                outer_bits = int(0)
                if crease:
                    outside = (
                        frame.shade[b, surface.edges[e, 6]] * weight_a + frame.shade[b, surface.edges[e, 7]] * weight_b
                    ) / iz
                    outside_iz = iz
                    outer_bits = bits
                elif outer >= 0:
                    k = surface.corners[outer]
                    w = weights(frame.setup[b, outer], float(ox) + 0.5, float(oy) + 0.5)
                    outside = blend(w, frame.shade[b, k[0]], frame.shade[b, k[1]], frame.shade[b, k[2]])
                    outside_iz = w[0] + w[1] + w[2]
                    outer_bits = surface.bits[outer]
                jump = float(0.0)
                iy = cy / frame.S
                ix = cx / frame.S
                if has_color != 0:
                    jump = wp.dot(g_color[b, iy, ix], (color_a * weight_a + color_b * weight_b) / iz - outside)
                if has_depth != 0:
                    jump += g_depth[b, iy, ix] * (iz - outside_iz)
                if bits != outer_bits:
                    for m in range(mask_count):
                        jump += g_masks[b, m, iy, ix] * float(((bits >> m) & 1) - ((outer_bits >> m) & 1))
                pull_a += jump * piece * weight_a
                pull_b += jump * piece * weight_b
        here = wp.max(here, there)
        if there >= span[1]:
            here = span[1]
    # a point of the edge moves on the screen by weight · (dh.xy - (x, y) dh.z), and n · (x, y) is the same all along
    scale = 1.0 / float(frame.S * frame.S)
    n = scale * wp.vec3(nx, ny, -(nx * ax + ny * ay))
    wp.atomic_add(g_h, b, va, pull_a * n)
    wp.atomic_add(g_h, b, vb, pull_b * n)
