"""Warp kernel of the auction that pairs the points of two clouds."""

# mypy: ignore-errors
# ruff: noqa: UP018 - Warp: int(0) declares a variable that a loop may change

import warp as wp

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func_native("""
    float* c = costs.data + row;
    float largest = 0.0f;
    for (int j = 0; j < n; ++j) {
        const float dx = p[0] - y.data[j][0], dy = p[1] - y.data[j][1], dz = p[2] - y.data[j][2];
        c[j] = sqrtf(dx * dx + dy * dy + dz * dz);
        largest = c[j] > largest ? c[j] : largest;
    }
    for (int j = n; j < width; ++j) c[j] = 1e30f;
    return largest;
""")
def write_costs(p: wp.vec3, y: wp.array(dtype=wp.vec3), n: int, width: int, costs: wp.array(dtype=float), row: int) -> float:
    """Distances from a point to n others, and the largest of them; what is beyond n is never cheap. In C++, as the next: the
    compiler then makes vectors of it."""
    ...


@wp.func_native("""
    const float* c = costs.data + row;
    const float* p = prices.data;
    float least = 1e29f, second = 1e29f;
    int at = 0;
    for (int b = 0; b < width; b += 16) {
        float v[16], m = 1e29f;
        for (int k = 0; k < 16; ++k) v[k] = c[b + k] + p[b + k];
        for (int k = 0; k < 16; ++k) m = m < v[k] ? m : v[k];
        if (m < second) for (int k = 0; k < 16; ++k) {
            if (v[k] < least) { second = least; least = v[k]; at = b + k; }
            else if (v[k] < second) second = v[k];
        }
    }
    return wp::vec_t<3, float>((float)at, least, second);
""")
def two_cheapest(costs: wp.array(dtype=float), row: int, prices: wp.array(dtype=float), width: int) -> wp.vec3:
    """(which, cost + price there, the next best's); width: a multiple of 16."""
    ...


@wp.kernel
def auction(
    x: wp.array(dtype=wp.vec3), y: wp.array(dtype=wp.vec3), tolerance: float, costs: wp.array(dtype=float),
    prices: wp.array(dtype=float), owner: wp.array(dtype=int), partner: wp.array(dtype=int), waiting: wp.array(dtype=int),
):  # fmt: skip
    """Fills partner (n): the point of y for each of x. costs (n width), prices (width), width being n rounded up to a
    multiple of 16, owner, waiting (n): working memory. One thread. Each bid raises a price by a step or more, so it ends."""
    n = x.shape[0]
    width = prices.shape[0]
    largest = float(0.0)
    for i in range(n):
        largest = wp.max(largest, write_costs(x[i], y, n, width, costs, i * width))
    for j in range(width):
        prices[j] = 0.0
    end = wp.max(tolerance * largest, 1.0e-12)
    step = wp.max(0.15 * largest, end)
    while step > 0.0:
        step = wp.max(step, end)
        for i in range(n):
            owner[i] = -1
            waiting[i] = i
        left = int(n)
        while left > 0:
            i = waiting[left - 1]
            best = two_cheapest(costs, i * width, prices, width)
            j = int(best[0])
            other = owner[j]
            prices[j] += best[2] - best[1] + step
            owner[j] = i
            partner[i] = j
            if other >= 0:
                waiting[left - 1] = other
            else:
                left -= 1
        step = wp.where(step > end, 0.2 * step, 0.0)
