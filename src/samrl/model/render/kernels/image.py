"""Warp kernels from faces to pixels, by what is seen at the centres of cells, and back: the interior part of the gradient.

The image is the mean over each pixel. Its gradient has two terms (Li et al. 2018, "Differentiable Monte Carlo Ray Tracing
through Edge Sampling", Eq. 4): the interior, here, by the adjoint of interpolation, and the boundary, in `pieces`. For a loss
gradient g by the weights w, dw = -M^-1 dM w makes the gradient by h_k equal to -w_k times one vector, M^-T g, that the three
vertices share.
"""

# mypy: ignore-errors
# ruff: noqa: UP018, RUF046, SIM102, SIM110 - Warp: int(0) declares a variable that a loop may change; no `in`, no nested `and`

import warp as wp

from samrl.model.render.kernels.shading import add_vertex, color_of, inverse_depth_of, pull_back_face, shared_vector
from samrl.model.render.kernels.types import VERTICES, Frame, Setup, Surface, face_at, inverse_depth, mask_bits, weights

wp.set_module_options({"enable_backward": False, "fast_math": True})

ON_SURFACE = wp.constant(0.05)  # a reading may be extrapolated to the pixel's centre if 1/z changes less than this [1]


@wp.func
def is_uniform(zbuffer: wp.array3d(dtype=wp.int64), b: int, y: int, x: int, S: int) -> bool:
    """Whether all cells of a pixel show the same face."""
    f = face_at(zbuffer, b, y * S, x * S)
    for s in range(1, S * S):
        if face_at(zbuffer, b, y * S + s / S, x * S + s % S) != f:
            return False
    return True


@wp.func
def reading_point(t: Setup, y: int, x: int, S: int, uniform: bool) -> wp.vec2:
    """Where a pixel's depth is read on the face of its middle cell: at the pixel's centre, or, where other faces share the
    pixel and this one is so steep that its plane may not reach there, at the cell's."""
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
    """(batch, H): a row of the image as the cells' centres show it. Where one face fills a pixel, it is interpolated once, at
    the pixel's centre."""
    i, y = wp.tid()
    b = first + i
    S = frame.S
    count = masks.shape[1]
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
            px = float(sx) + 0.5
            py = float(sy) + 0.5
            if samples == 1:
                px = (float(x) + 0.5) * float(S)
                py = (float(y) + 0.5) * float(S)
            total += share * color_of(surface, frame, b, f, px, py)
            if frame.mean_depth != 0:
                total_iz += share * inverse_depth_of(surface, frame, b, f, px, py)
            bits = mask_bits(surface, f)
            if bits != 0:
                for m in range(count):
                    masks[b, m, y, x] = masks[b, m, y, x] + share * float((bits >> m) & 1)
        color[b, y, x] = total
        middle = face_at(frame.zbuffer, b, y * S + S / 2, x * S + S / 2)
        links[b, y, x] = -1
        if middle >= 0:
            links[b, y, x] = face_link[middle]
        if frame.mean_depth != 0:
            depth[b, y, x] = total_iz
        elif middle < 0:
            depth[b, y, x] = 0.0
        else:
            at = reading_point(frame.setup[b, middle], y, x, S, samples == 1)
            depth[b, y, x] = 1.0 / inverse_depth(frame.setup[b, middle], at[0], at[1])


@wp.kernel
def pull_back_interior(
    first: int, surface: Surface, frame: Frame, wanted: wp.array(dtype=int),
    g_color: wp.array3d(dtype=wp.vec3), g_depth: wp.array3d(dtype=float), has_color: int, has_depth: int, width: int,
    g_h: wp.array2d(dtype=wp.vec3), g_shade: wp.array2d(dtype=wp.vec3),
):  # fmt: skip
    """(batch, H): adjoint of `resolve`, along a row. `wanted` (F): bits VERTICES, CORNERS."""
    i, y = wp.tid()
    b = first + i
    S = frame.S
    for x in range(width):
        samples = S * S
        if is_uniform(frame.zbuffer, b, y, x, S):
            samples = int(1)
        share = 1.0 / float(samples)
        g = wp.vec3()
        if has_color != 0:
            g = g_color[b, y, x] * share
        g_iz = float(0.0)
        if has_depth != 0 and frame.mean_depth != 0:
            g_iz = g_depth[b, y, x] * share
        for s in range(samples):
            sy = y * S + s / S
            sx = x * S + s % S
            f = face_at(frame.zbuffer, b, sy, sx)
            if f >= 0:
                want = wanted[f]
                if want != 0:
                    px = float(sx) + 0.5
                    py = float(sy) + 0.5
                    if samples == 1:
                        px = (float(x) + 0.5) * float(S)
                        py = (float(y) + 0.5) * float(S)
                    pull_back_face(surface, frame, b, f, want, px, py, g, g_iz, g_h, g_shade)
        middle = face_at(frame.zbuffer, b, y * S + S / 2, x * S + S / 2)
        if has_depth != 0 and frame.mean_depth == 0 and middle >= 0:
            if (wanted[middle] & VERTICES) != 0:
                t = frame.setup[b, middle]
                at = reading_point(t, y, x, S, samples == 1)
                w = weights(t, at[0], at[1])
                iz = w[0] + w[1] + w[2]
                slope = -g_depth[b, y, x] / (iz * iz)
                q = shared_vector(t, wp.vec3(slope, slope, slope))
                v = surface.faces[middle]
                for j in range(3):
                    add_vertex(g_h, b, v[j], -w[j] * q, t)
