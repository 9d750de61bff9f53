"""Warp kernels from faces to pixels, by what is seen at pixels' centres, and back: the interior part of the gradient.

The image is the mean over each pixel. Its gradient has two terms (Li et al. 2018, "Differentiable Monte Carlo Ray Tracing
through Edge Sampling", Eq. 4): the interior, here, by the adjoint of interpolation, and the boundary, in `pieces`. Along a row
a face is looked up once, and what goes back to it is summed until another one is seen. A narrow face, and a texture, are gone
through pixel by pixel.
"""

# mypy: ignore-errors
# ruff: noqa: UP018, RUF046 - Warp: int(0) and float(0.0) declare a variable that a loop may change

import warp as wp

from samrl.model.render.kernels.rows import Mat34, run_end, sum_run, write_run
from samrl.model.render.kernels.shading import add_vertex, color_of, inverse_depth_of, pull_back_face, shared_vector
from samrl.model.render.kernels.texture import has_texture
from samrl.model.render.kernels.types import (
    NARROW,
    VERTICES,
    Frames,
    Surfaces,
    face_at,
    has_one_colour,
    mask_bits,
    weights,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})

SAMPLES = wp.constant(2)  # of a texture in a pixel, each way

Mat24 = wp.types.matrix(shape=(2, 4), dtype=wp.float32)


@wp.func
def along_row(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float, flat: bool) -> Mat24:
    """(colour / z, 1/z) of a face at a point, and their slopes along the row; of one with one colour, the colour itself."""
    t = frame[b].setup[f]
    k = surface[0].corners[f]
    w = weights(t, x, y)
    begin = wp.vec4(0.0, 0.0, 0.0, w[0] + w[1] + w[2])
    slope = wp.vec4(0.0, 0.0, 0.0, t[0] + t[3] + t[6])
    if flat:
        c = frame[b].shade[k[0]]
        begin += wp.vec4(c[0], c[1], c[2], 0.0)
    else:
        for j in range(3):
            c = frame[b].shade[k[j]]
            begin += w[j] * wp.vec4(c[0], c[1], c[2], 0.0)
            slope += t[3 * j] * wp.vec4(c[0], c[1], c[2], 0.0)
    return Mat24(begin[0], begin[1], begin[2], begin[3], slope[0], slope[1], slope[2], slope[3])


@wp.func
def sample(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float, i: int, j: int) -> wp.vec2:
    """Where a sample of a texture lies in the pixel with this centre; in the centre if 1/z is quite another there: beside a face
    seen at a grazing angle, beyond its horizon, there is no colour."""
    p = wp.vec2(x + (float(i) + 0.5) / float(SAMPLES) - 0.5, y + (float(j) + 0.5) / float(SAMPLES) - 0.5)
    iz = inverse_depth_of(surface, frame, b, f, x, y)
    there = inverse_depth_of(surface, frame, b, f, p[0], p[1])
    if there < 0.7 * iz or there > 1.4 * iz:
        return wp.vec2(x, y)
    return p


@wp.func
def mean_color(surface: Surfaces, frame: Frames, b: int, f: int, x: float, y: float) -> wp.vec3:
    """Colour of a face all over the pixel with this centre: the edges in it see to what is not the face's."""
    if not has_texture(surface):
        return color_of(surface, frame, b, f, x, y)
    c = wp.vec3()
    for i in range(SAMPLES):
        for j in range(SAMPLES):
            p = sample(surface, frame, b, f, x, y, i, j)
            c += color_of(surface, frame, b, f, p[0], p[1])
    return c / float(SAMPLES * SAMPLES)


@wp.func
def pull_back_mean(surface: Surfaces, frame: Frames, b: int, f: int, want: int, x: float, y: float, g: wp.vec3, g_iz: float):
    """Adjoint of `mean_color`, and of 1/z at the centre."""
    if not has_texture(surface):
        pull_back_face(surface, frame, b, f, want, x, y, g, g_iz)
        return
    if g_iz != 0.0:
        pull_back_face(surface, frame, b, f, want, x, y, wp.vec3(), g_iz)
    for i in range(SAMPLES):
        for j in range(SAMPLES):
            p = sample(surface, frame, b, f, x, y, i, j)
            pull_back_face(surface, frame, b, f, want, p[0], p[1], g / float(SAMPLES * SAMPLES), 0.0)


@wp.kernel
def resolve(first: int, surface: Surfaces, frame: Frames, face_link: wp.array(dtype=int)):
    """(batch, H): a row of the image as the pixels' centres show it."""
    i, y = wp.tid()
    b = first + i
    zbuffer = frame[b].zbuffer
    color = frame[b].color
    depth = frame[b].depth
    width = frame[b].width
    mean = frame[b].mean_depth
    back = frame[b].background
    py = float(y) + 0.5
    row = y * width
    at = int(row)
    while at < row + width:
        f = face_at(zbuffer, at)
        end = run_end(zbuffer, at, row + width)
        bits = mask_bits(surface, f)
        link = int(-1)
        flat = bool(True)
        narrow = bool(False)
        here = wp.vec4(back[0], back[1], back[2], 0.0)
        slope = wp.vec4()
        if f >= 0:
            link = face_link[f]
            flat = has_one_colour(surface, f)
            narrow = (frame[b].facing[f] & NARROW) != 0
            line = along_row(surface, frame, b, f, float(at - row) + 0.5, py, flat)
            here = line[0]
            slope = line[1]
        write_run(
            color, depth, frame[b].masks, frame[b].links, at, end, here, slope, int(flat), mean, bits, frame[b].mask_count,
            width * frame[b].height, link,
        )  # fmt: skip
        if narrow or (f >= 0 and has_texture(surface)):
            for p in range(at, end):
                px = float(p - row) + 0.5
                if not flat:
                    color[p] = mean_color(surface, frame, b, f, px, py)
                if narrow and mean != 0:
                    depth[p] = inverse_depth_of(surface, frame, b, f, px, py)
        at = end


@wp.func
def pull_back_run(surface: Surfaces, frame: Frames, b: int, f: int, want: int, x: float, y: float, sums: Mat34):
    """What a run of pixels, from x on, has for a wide face; `sums`: see `sum_run`. With (dx, dy, 1), from the setup's origin,
    these make the moments M = sum of (dx, dy, 1) ⊗ u. For a gradient e_k = z (g · c_k) - … by w_k, h_k gets -w_k M^-T e (see
    `shading`)."""
    t = frame[b].setup[f]
    k = surface[0].corners[f]
    v = surface[0].faces[f]
    flat = has_one_colour(surface, f)
    by_x = sums[1] + (x - t[9]) * sums[0]
    for j in range(3):
        u = t[3 * j] * by_x + (t[3 * j + 1] * (y - t[10]) + t[3 * j + 2]) * sums[0]  # sum of w_j u
        g = wp.vec3(u[0], u[1], u[2])
        if not flat:
            wp.atomic_add(frame[b].g_shade, k[j], g)
        if (want & VERTICES) != 0:
            e = wp.vec3(-u[3], -u[3], -u[3])
            if not flat:
                for n in range(3):
                    e[n] += wp.dot(g, frame[b].shade[k[n]])
            add_vertex(frame, b, v[j], -shared_vector(t, e), t)


@wp.kernel
def pull_back_interior(first: int, surface: Surfaces, frame: Frames, wanted: wp.array(dtype=int), has_color: int, has_depth: int):
    """(batch, H): adjoint of `resolve`, along a row. `wanted` (F): bits VERTICES, CORNERS."""
    i, y = wp.tid()
    b = first + i
    zbuffer = frame[b].zbuffer
    g_color = frame[b].g_color
    g_depth = frame[b].g_depth
    width = frame[b].width
    mean = frame[b].mean_depth
    py = float(y) + 0.5
    row = y * width
    at = int(row)
    while at < row + width:
        f = face_at(zbuffer, at)
        end = run_end(zbuffer, at, row + width)
        want = int(0)
        if f >= 0:
            want = wanted[f]
        if want != 0:
            flat = has_one_colour(surface, f)
            narrow = (frame[b].facing[f] & NARROW) != 0 and (has_depth != 0 or not flat)
            pixelwise = narrow or has_texture(surface)  # colour is, and of a narrow face 1/z
            if narrow or (pixelwise and has_color != 0):
                for p in range(at, end):
                    g = wp.vec3()
                    g_iz = float(0.0)
                    if has_color != 0:
                        g = g_color[p]
                    if narrow and has_depth != 0 and mean != 0:
                        g_iz = g_depth[p]
                    pull_back_mean(surface, frame, b, f, want, float(p - row) + 0.5, py, g, g_iz)
            # depth at a pixel's centre is the face's own, narrow or not
            if not pixelwise or (has_depth != 0 and (mean == 0 or not narrow)):
                px = float(at - row) + 0.5
                plain = flat or pixelwise
                line = along_row(surface, frame, b, f, px, py, plain)
                by_color = wp.where(pixelwise, 0, has_color)
                sums = sum_run(g_color, g_depth, by_color, has_depth, mean, at, end, line[0], line[1], int(plain))
                if has_depth != 0 or not plain:
                    pull_back_run(surface, frame, b, f, want, px, py, sums)
                if flat and by_color != 0:
                    wp.atomic_add(frame[b].g_shade, surface[0].corners[f][0], wp.vec3(sums[2, 0], sums[2, 1], sums[2, 2]))
        at = end
