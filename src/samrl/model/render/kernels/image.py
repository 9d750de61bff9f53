"""Warp kernels from faces to pixels, by what is seen at pixels' centres, and back: the interior part of the gradient.

The image is the mean over each pixel. Its gradient has two terms (Li et al. 2018, "Differentiable Monte Carlo Ray Tracing
through Edge Sampling", Eq. 4): the interior, here, by the adjoint of interpolation, and the boundary, in `pieces`. Along a row
a face is looked up once, and what goes back to it is summed until another one is seen.
"""

# mypy: ignore-errors
# ruff: noqa: UP018, RUF046 - Warp: int(0) and float(0.0) declare a variable that a loop may change

import warp as wp

from samrl.model.render.kernels.shading import add_vertex, color_of, inverse_depth_of, pull_back_face, shared_vector
from samrl.model.render.kernels.types import NARROW, VERTICES, Frames, Setup, Surfaces, face_at, has_one_colour, mask_bits

wp.set_module_options({"enable_backward": False, "fast_math": True})

Mat24 = wp.types.matrix(shape=(2, 4), dtype=wp.float32)
Mat34 = wp.types.matrix(shape=(3, 4), dtype=wp.float32)


@wp.func
def along_row(surface: Surfaces, frame: Frames, b: int, f: int, py: float, flat: bool) -> Mat24:
    """(colour / z, 1/z) of a face where x = 0 in a row, and their slopes along it; of one with one colour, its colour itself."""
    t = frame[b].setup[f]
    k = surface[0].corners[f]
    c = frame[b].shade[k[0]]
    begin = wp.vec4()
    slope = wp.vec4()
    for j in range(3):
        if not flat:
            c = frame[b].shade[k[j]]
        w = wp.vec4(c[0], c[1], c[2], 1.0)
        slope += t[3 * j] * w
        begin += (t[3 * j + 1] * (py - t[10]) + t[3 * j + 2] - t[3 * j] * t[9]) * w
    if flat:
        return Mat24(c[0], c[1], c[2], begin[3], 0.0, 0.0, 0.0, slope[3])
    return Mat24(begin[0], begin[1], begin[2], begin[3], slope[0], slope[1], slope[2], slope[3])


@wp.kernel
def resolve(first: int, surface: Surfaces, frame: Frames, face_link: wp.array(dtype=int)):
    """(batch, H): a row of the image as the pixels' centres show it."""
    i, y = wp.tid()
    b = first + i
    zbuffer = frame[b].zbuffer
    color = frame[b].color
    depth = frame[b].depth
    masks = frame[b].masks
    links = frame[b].links
    width = frame[b].width
    pixels = width * frame[b].height
    mean_depth = frame[b].mean_depth
    mask_count = frame[b].mask_count
    py = float(y) + 0.5
    last = int(-2)
    bits = int(0)
    link = int(-1)
    narrow = bool(False)
    slope = wp.vec4()  # along the row, of colour / z and of 1/z; a colour that is the same all over has no slope, and no 1/z
    begin = wp.vec4()
    flat = bool(True)
    for x in range(width):
        at = y * width + x
        f = face_at(zbuffer, at)
        px = float(x) + 0.5
        if f != last:
            last = f
            bits = mask_bits(surface, f)
            link = -1
            flat = True
            narrow = False
            slope = wp.vec4()
            begin = wp.vec4(frame[b].background[0], frame[b].background[1], frame[b].background[2], 0.0)
            if f >= 0:
                link = face_link[f]
                flat = has_one_colour(surface, f)
                narrow = (frame[b].facing[f] & NARROW) != 0
                rows = along_row(surface, frame, b, f, py, flat)
                begin = rows[0]
                slope = rows[1]
        links[at] = link
        iz = begin[3] + slope[3] * px
        if narrow and not flat:
            color[at] = color_of(surface, frame, b, f, px, py)
        else:
            z = float(1.0)
            if not flat:
                z = 1.0 / iz
            color[at] = z * wp.vec3(begin[0] + slope[0] * px, begin[1] + slope[1] * px, begin[2] + slope[2] * px)
        if mean_depth != 0:
            if narrow:
                iz = inverse_depth_of(surface, frame, b, f, px, py)
            depth[at] = iz
        elif f >= 0:
            depth[at] = 1.0 / iz
        else:
            depth[at] = 0.0
        for m in range(mask_count):
            masks[m * pixels + at] = float((bits >> m) & 1)


@wp.func
def pull_back_run(
    surface: Surfaces, frame: Frames, b: int, f: int, want: int, moments: Mat34
):
    """What a run of pixels has for a wide face: `moments` is the sum of (dx, dy, 1) ⊗ (z g, z g · colour - gradient by 1/z), with
    dx, dy from the setup's origin. For a gradient e_k = z (g · c_k) - … by w_k, h_k gets -w_k M^-T e (see `shading`)."""
    t = frame[b].setup[f]
    k = surface[0].corners[f]
    v = surface[0].faces[f]
    c0 = frame[b].shade[k[0]]
    c1 = frame[b].shade[k[1]]
    c2 = frame[b].shade[k[2]]
    flat = has_one_colour(surface, f)
    for j in range(3):
        s = wp.vec4(t[3 * j], t[3 * j + 1], t[3 * j + 2], 0.0)
        u = s[0] * moments[0] + s[1] * moments[1] + s[2] * moments[2]  # sum of w_j (z g, …)
        g = wp.vec3(u[0], u[1], u[2])
        if not flat:
            wp.atomic_add(frame[b].g_shade, k[j], g)
        if (want & VERTICES) != 0:
            e = wp.vec3(wp.dot(g, c0) - u[3], wp.dot(g, c1) - u[3], wp.dot(g, c2) - u[3])
            if flat:
                e = wp.vec3(-u[3], -u[3], -u[3])
            add_vertex(frame, b, v[j], -shared_vector(t, e), t)


@wp.func
def wide_moments(t: Setup, c0: wp.vec3, c1: wp.vec3, c2: wp.vec3, flat: bool, g: wp.vec3, g_iz: float, p: wp.vec2) -> Mat34:
    """One pixel's part of `pull_back_run`'s moments."""
    dx = p[0] - t[9]
    dy = p[1] - t[10]
    u = wp.vec4(0.0, 0.0, 0.0, -g_iz)
    if not flat:
        w0 = t[0] * dx + t[1] * dy + t[2]
        w1 = t[3] * dx + t[4] * dy + t[5]
        w2 = t[6] * dx + t[7] * dy + t[8]
        z = 1.0 / (w0 + w1 + w2)
        q = g * z
        u = wp.vec4(q[0], q[1], q[2], z * wp.dot(q, w0 * c0 + w1 * c1 + w2 * c2) - g_iz)
    return wp.outer(wp.vec3(dx, dy, 1.0), u)


@wp.kernel
def pull_back_interior(
    first: int, surface: Surfaces, frame: Frames, wanted: wp.array(dtype=int), has_color: int, has_depth: int
):
    """(batch, H): adjoint of `resolve`, along a row. `wanted` (F): bits VERTICES, CORNERS."""
    i, y = wp.tid()
    b = first + i
    zbuffer = frame[b].zbuffer
    g_color = frame[b].g_color
    g_depth = frame[b].g_depth
    width = frame[b].width
    mean_depth = frame[b].mean_depth
    py = float(y) + 0.5
    last = int(-1)
    want = int(0)
    flat = bool(True)
    narrow = bool(False)
    summed = bool(False)
    t = Setup()
    c0 = wp.vec3()
    c1 = wp.vec3()
    c2 = wp.vec3()
    moments = Mat34()
    plain = wp.vec3()  # sum of gradients by the colour of a face that has one
    for x in range(width + 1):
        f = int(-1)
        if x < width:
            f = face_at(zbuffer, y * width + x)
        px = float(x) + 0.5
        if f != last:
            if want != 0:
                if flat:
                    wp.atomic_add(frame[b].g_shade, surface[0].corners[last][0], plain)
                if summed:
                    pull_back_run(surface, frame, b, last, want, moments)
            last = f
            want = 0
            if f >= 0:
                want = wanted[f]
            if want != 0:
                flat = has_one_colour(surface, f)
                narrow = (frame[b].facing[f] & NARROW) != 0 and (has_depth != 0 or not flat)
                t = frame[b].setup[f]
                k = surface[0].corners[f]
                c0 = frame[b].shade[k[0]]
                c1 = frame[b].shade[k[1]]
                c2 = frame[b].shade[k[2]]
                summed = (has_depth != 0 and (mean_depth == 0 or not narrow)) or not (flat or narrow)
                moments = Mat34()
                plain = wp.vec3()
        if want != 0:
            g = wp.vec3()
            g_iz = float(0.0)
            if has_color != 0:
                g = g_color[y * width + x]
            if has_depth != 0:
                g_iz = g_depth[y * width + x]
                if mean_depth == 0:
                    iz = (t[0] + t[3] + t[6]) * (px - t[9]) + (t[1] + t[4] + t[7]) * (py - t[10]) + t[2] + t[5] + t[8]
                    g_iz = -g_iz / (iz * iz)
            if narrow:
                pull_back_face(surface, frame, b, f, want, px, py, g, g_iz * float(mean_depth))
            else:
                plain += g
            if summed:
                moments += wide_moments(t, c0, c1, c2, flat or narrow, g, g_iz, wp.vec2(px, py))
