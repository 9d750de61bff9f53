"""Loops along a row of pixels, in C++. Warp's arrays have strides that are known only at run time, so each access multiplies, and
nothing is vectorised; by bare pointers these loops are three times as fast. They hold no geometry.

`begin` and `end` are indices into flat pixel arrays, `end` not included; `first` and `slope` are what is linear along a row,
at pixel `begin` and its change from one pixel to the next.
"""

# mypy: ignore-errors

import warp as wp

Mat34 = wp.types.matrix(shape=(3, 4), dtype=wp.float32)


@wp.func_native("""
    const long long* z = (const long long*)zbuffer.data;
    const int face = (int)z[begin];
    int i = begin + 1;
    while (i < end && (int)z[i] == face) ++i;
    return i;
""")
def run_end(zbuffer: wp.array(dtype=wp.int64), begin: int, end: int) -> int:
    """The first pixel after `begin` at which another face is seen, or `end`."""
    ...


@wp.func_native("""
    long long* z = (long long*)zbuffer.data + begin;
    for (int k = 0; k < end - begin; ++k) {
        const float iz = first + slope * k;
        if (iz > 0.0f && iz < nearest) {
            int bits;
            memcpy(&bits, &iz, 4);
            const long long key = ((long long)bits << 32) | low;
            if (key > z[k]) wp::atomic_max((wp::int64*)z + k, (wp::int64)key);
        }
    }
""")
def write_keys(zbuffer: wp.array(dtype=wp.int64), begin: int, end: int, first: float, slope: float, nearest: float, low: int):
    """Writes a face's keys, `low` in their lower half, where 1/z is between 0 and `nearest` and greater than what is there."""
    ...


@wp.func_native("""
    const int* l = lists.data;
    int i = begin;
    while (i < end && l[i] == 0) ++i;
    return i;
""")
def next_listed(lists: wp.array(dtype=int), begin: int, end: int) -> int:
    """The first pixel from `begin` on that is not UNMARKED, or `end`."""
    ...


@wp.func_native("""
    const long long* z = (const long long*)zbuffer.data;
    const int beside[4] = {1, below - 1, below, below + 1};
    int i = begin;
    for (; i < end - 1; ++i) {
        const int face = (int)z[i];
        for (int j = 0; j < 4; ++j) {
            const int other = (int)z[i + beside[j]];
            if (other != face) {
                const int seen = (face > 0 ? facing.data[face - 1] : 0) | (other > 0 ? facing.data[other - 1] : 0);
                if (seen & clipped) return i;
                if (face > 0 && other > 0 && part.data[face - 1] != part.data[other - 1]) return i;
            }
        }
    }
    return i;
""")
def next_crossing(
    zbuffer: wp.array(dtype=wp.int64), facing: wp.array(dtype=int), part: wp.array(dtype=int), begin: int, end: int, below: int,
    clipped: int,
) -> int:  # fmt: skip
    """The first pixel from `begin` on, or the last before `end`, that differs from the one to its right, or one of the three
    beside pixel + `below`, by faces of two parts, or one with the bit `clipped`."""
    ...


@wp.func_native("""
    memset(zbuffer.data + begin, 0, 8 * (size_t)(end - begin));
    memset(lists.data + begin, 0, 4 * (size_t)(end - begin));
""")
def clear_row(zbuffer: wp.array(dtype=wp.int64), lists: wp.array(dtype=int), begin: int, end: int):
    """Nothing is seen yet, and no pixel is marked."""
    ...


@wp.func_native("""
    const int n = end - begin;
    float* c = (float*)(color.data + begin);
    float* d = depth.data + begin;
    int* l = links.data + begin;
    for (int k = 0; k < n; ++k) l[k] = link;
    for (int m = 0; m < mask_count; ++m) {
        float* s = masks.data + (m * pixels + begin);
        const float shown = (float)((bits >> m) & 1);
        for (int k = 0; k < n; ++k) s[k] = shown;
    }
    if (link < 0) for (int k = 0; k < n; ++k) d[k] = 0.0f;
    else if (mean_depth) for (int k = 0; k < n; ++k) d[k] = first[3] + slope[3] * k;
    else for (int k = 0; k < n; ++k) d[k] = 1.0f / (first[3] + slope[3] * k);
    if (flat) for (int k = 0; k < n; ++k) for (int j = 0; j < 3; ++j) c[3 * k + j] = first[j];
    else for (int k = 0; k < n; ++k) {
        const float z = 1.0f / (first[3] + slope[3] * k);
        for (int j = 0; j < 3; ++j) c[3 * k + j] = (first[j] + slope[j] * k) * z;
    }
""")
def write_run(
    color: wp.array(dtype=wp.vec3), depth: wp.array(dtype=float), masks: wp.array(dtype=float), links: wp.array(dtype=int),
    begin: int, end: int, first: wp.vec4, slope: wp.vec4, flat: int, mean_depth: int, bits: int, mask_count: int, pixels: int,
    link: int,
):  # fmt: skip
    """Writes what a run of pixels shows: (colour / z, 1/z) is linear, or, if `flat`, colour itself and 1/z. link -1: nothing."""
    ...


@wp.func_native("""
    wp::mat_t<3, 4, float> sums(0.0f);
    for (int k = 0; k < end - begin; ++k) {
        float g[3] = {0.0f, 0.0f, 0.0f};
        if (has_color) for (int j = 0; j < 3; ++j) g[j] = ((const float*)(g_color.data + begin))[3 * k + j];
        const float iz = first[3] + slope[3] * k;
        float by_iz = has_depth ? g_depth.data[begin + k] : 0.0f;
        if (has_depth && !mean_depth) by_iz = -by_iz / (iz * iz);
        float u[4] = {0.0f, 0.0f, 0.0f, -by_iz};
        if (!flat) {
            const float z = 1.0f / iz;
            float shown = 0.0f;
            for (int j = 0; j < 3; ++j) {
                u[j] = g[j] * z;
                shown += u[j] * (first[j] + slope[j] * k);
            }
            u[3] += shown * z;
        }
        for (int j = 0; j < 4; ++j) {
            sums.data[0][j] += u[j];
            sums.data[1][j] += u[j] * k;
        }
        for (int j = 0; j < 3; ++j) sums.data[2][j] += g[j];
    }
    return sums;
""")
def sum_run(
    g_color: wp.array(dtype=wp.vec3), g_depth: wp.array(dtype=float), has_color: int, has_depth: int, mean_depth: int,
    begin: int, end: int, first: wp.vec4, slope: wp.vec4, flat: int,
) -> Mat34:  # fmt: skip
    """Sums over a run of pixels, k = 0, 1, … along it, g and g_iz being the gradients by colour and 1/z: of u, of k u, and of
    (g, 0), where u = (z g, z² g · colour / z − g_iz), or (0, −g_iz) if `flat`."""
    ...
