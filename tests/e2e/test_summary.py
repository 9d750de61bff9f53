"""Figures: intervals against published values, medians, and independence from the order of episodes."""

import pytest

from samrl.sim2real import summary


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 0, 0.0, 1.0)],
)
def test_wilson(hits, count, low, high):  # third and fourth: Newcombe 1998, Table I
    assert summary.wilson(hits, count) == pytest.approx((low, high), abs=1e-4)


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


def test_neither_order_nor_speed_changes_a_result():
    records = [record(s) for s in range(4)]
    slow = [record(s, step_time=9.0) for s in (2, 0, 3, 1)]
    assert summary.figures(records)[0] == summary.figures(slow)[0]
    assert summary.figures(records)[1] != summary.figures(slow)[1]


def test_no_success_at_all_is_a_figure():
    results = by_metric(summary.figures([record(1, success=False)])[0])
    assert results["success"]["value"] == 0.0 and "steps to success" not in results
