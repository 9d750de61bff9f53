"""Figures: intervals against published values, medians, and independence from the order of episodes."""

import pytest

from samrl.sim2real import summary


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 0, 0.0, 1.0)],
)
def test_wilson(hits, count, low, high):  # third and fourth: Newcombe 1998, Table I
    assert summary.wilson(hits, count) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [((36, 12, 2, 0), 0.0569, 0.3404), ((20, 12, 2, 16), 0.0562, 0.3292), ((2, 98, 0, 0), 0.9178, 0.9945)],
)
def test_paired_difference(counts, low, high):  # Newcombe 1998, Table II, method 10
    kinds = [(True, True), (True, False), (False, True), (False, False)]
    pairs = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
    assert summary.paired_difference(pairs)[1:] == pytest.approx((low, high), abs=1e-4)


def record(seed, success=True, step_time=0.1):
    errors = {m: {"mm": float(seed), "deg": 1.0} for m in summary.MOMENTS}
    return {
        "seed": seed, "world": "pybullet", "settings": "nominal", "variant": "full", "views": [], "success": success,
        "steps": 10 + seed,
        "errors": {"block": errors}, "times": {"look": [0.3, 0.2], "update": [0.5, step_time]},
    }  # fmt: skip


def by_metric(figures):
    return {f["metric"]: f for f in figures}


def test_figures_of_a_few_episodes():
    results, times = map(by_metric, summary.figures([record(s, s != 2) for s in range(5)]))
    assert (results["success"]["value"], results["success"]["count"]) == (0.8, 5)
    assert results["block mm after"]["value"] == 2.0 and results["block mm after"]["unit"] == "mm"
    assert results["steps to success"]["value"] == 12.0
    assert times["control step: controller"]["value"] == pytest.approx(100.0)
    assert times["control step: all"]["value"] == pytest.approx(300.0)
    assert times["first control step: all"]["value"] == pytest.approx(800.0)


def test_steps_in_which_a_view_is_chosen_are_told_apart():
    episode = record(0) | {"views": [{"step": 2}], "times": {"look": [0.3] * 4, "update": [0.5, 0.1, 0.2, 0.1]}}
    times = by_metric(summary.figures([episode])[1])
    assert times["controller where a view is chosen"]["value"] == pytest.approx(200.0)
    assert times["controller where none is"]["count"] == 2


def test_a_variant_is_compared_on_the_seeds_that_both_have_tried():
    full, other = [record(s) for s in range(4)], [{**record(s, s > 2), "variant": "no-update"} for s in range(1, 6)]
    found = [f for f in summary.figures(full + other)[0] if "less" in f["metric"]]
    assert [(f["variant"], f["count"], f["value"]) for f in found] == [("no-update", 3, round(2 / 3, 5))]


def test_neither_order_nor_speed_changes_a_result():
    records = [record(s) for s in range(4)]
    slow = [record(s, step_time=9.0) for s in (2, 0, 3, 1)]
    assert summary.figures(records)[0] == summary.figures(slow)[0]
    assert summary.figures(records)[1] != summary.figures(slow)[1]


def test_no_success_at_all_is_a_figure():
    results = by_metric(summary.figures([record(1, success=False)])[0])
    assert results["success"]["value"] == 0.0 and "steps to success" not in results
