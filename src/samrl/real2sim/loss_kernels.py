"""Warp kernels of the masked image loss: left to torch, it costs more than the rendering."""

# mypy: ignore-errors
# ruff: noqa: UP018 - float(0.0) declares a variable that a loop may change

import warp as wp

wp.set_module_options({"enable_backward": False})

WHOLE = wp.constant(0.99)  # a pixel that shows this much of a body has that body's depth


@wp.func
def sign(x: float) -> float:
    if x > 0.0:
        return 1.0
    if x < 0.0:
        return -1.0
    return 0.0


@wp.kernel
def compare(
    first: int, crops: int,
    color: wp.array3d(dtype=wp.vec3), depth: wp.array3d(dtype=float), masks: wp.array4d(dtype=float),
    color_real: wp.array3d(dtype=wp.vec3), depth_real: wp.array4d(dtype=float), masks_real: wp.array4d(dtype=float),
    scale: wp.array4d(dtype=float), per_meter: float, cap: float,
    value: wp.array3d(dtype=float),
):  # fmt: skip
    """(K C, S): what a row adds to the loss of each body. color and depth (K C, S, S), masks (K C, B, S, S); of the real images
    color (C, S, S), depth, masks and scale (C, B, S, S); value (K C, S, B)."""
    i, y = wp.tid()
    n = first + i
    c = n % crops
    for b in range(masks.shape[1]):
        total = float(0.0)
        for x in range(masks.shape[3]):
            s = scale[c, b, y, x]
            sim = masks[n, b, y, x]
            real = masks_real[c, b, y, x]
            if s > 0.0 and (sim > 0.0 or real > 0.0):
                d = sim * color[n, y, x] - real * color_real[c, y, x]
                total += s * ((wp.abs(d[0]) + wp.abs(d[1]) + wp.abs(d[2])) / 3.0 + wp.abs(sim - real))
                z = depth_real[c, b, y, x]
                if sim > WHOLE and z > 0.0:
                    total += s * per_meter * wp.min(wp.abs(depth[n, y, x] - z), cap)
        value[n, y, b] = total


@wp.kernel
def pull_back(
    first: int, crops: int,
    color: wp.array3d(dtype=wp.vec3), depth: wp.array3d(dtype=float), masks: wp.array4d(dtype=float),
    color_real: wp.array3d(dtype=wp.vec3), depth_real: wp.array4d(dtype=float), masks_real: wp.array4d(dtype=float),
    scale: wp.array4d(dtype=float), per_meter: float, cap: float,
    g_value: wp.array2d(dtype=float), g_color: wp.array3d(dtype=wp.vec3), g_depth: wp.array3d(dtype=float),
    g_masks: wp.array4d(dtype=float),
):  # fmt: skip
    """(K C, S): adjoint of `compare` and of the sum over rows and crops; g_value (K, B)."""
    i, y = wp.tid()
    n = first + i
    c = n % crops
    for x in range(masks.shape[3]):
        total = wp.vec3()
        by_depth = float(0.0)
        for b in range(masks.shape[1]):
            s = scale[c, b, y, x] * g_value[n / crops, b]
            sim = masks[n, b, y, x]
            real = masks_real[c, b, y, x]
            by_mask = float(0.0)
            if s != 0.0 and (sim > 0.0 or real > 0.0):
                d = sim * color[n, y, x] - real * color_real[c, y, x]
                g = wp.vec3(sign(d[0]), sign(d[1]), sign(d[2])) * (s / 3.0)
                total += g * sim
                by_mask = wp.dot(g, color[n, y, x]) + s * sign(sim - real)
                z = depth_real[c, b, y, x]
                e = depth[n, y, x] - z
                if sim > WHOLE and z > 0.0 and wp.abs(e) < cap:
                    by_depth += s * per_meter * sign(e)
            g_masks[n, b, y, x] = by_mask
        g_color[n, y, x] = total
        g_depth[n, y, x] = by_depth
