"""From episode records to the figures of summary.json.

A figure is {"metric", "world", "settings", "variant", "value", "low", "high", "count", "unit"}. Of a share, low and high are
its 95 % Wilson interval; of everything else the value is the median, low and high the 5th and 95th percentiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from samrl.core.runs import episode_key

MOMENTS = ("before", "after", "last")  # the first update, and the last one
VARIANT = "fixed-view"
WORLDS_TIME = ("look", "act")  # parts of a step that belong to the world, not to the controller
Figure = dict[str, Any]
Record = dict[str, Any]


def figures(episodes: Iterable[Record]) -> tuple[list[Figure], list[Figure]]:
    """(results, times) of all episodes, by world and settings. Only the times depend on the machine's speed."""
    results: list[Figure] = []
    times: list[Figure] = []
    for place, group in groupby(sorted(episodes, key=episode_key), key=lambda e: (e["world"], e["settings"])):
        records = list(group)
        results += _outcomes(place, records) + pose_errors(place, records)
        times += _step_times(place, records)
    return results, times


def _outcomes(place: tuple[str, str], records: Sequence[Record]) -> list[Figure]:
    won = [r for r in records if r["success"]]
    figures = [share("success", place, len(won), len(records))]
    if won:
        figures.append(spread("steps to success", place, [r["steps"] for r in won], "steps"))
    return figures


def pose_errors(place: tuple[str, str], records: Sequence[Record], moments: Sequence[str] = MOMENTS) -> list[Figure]:
    """Position and rotation error of each body's estimate at each moment."""
    return [
        spread(f"{body} {unit} {moment}", place, [r["errors"][body][moment][unit] for r in records], unit)
        for body in records[0]["errors"]
        for moment in moments
        for unit in ("mm", "deg")
    ]


def _step_times(place: tuple[str, str], records: Sequence[Record]) -> list[Figure]:
    """The parts of a control step, the sum of the controller's own, and of all. The first step of an episode, which starts
    from far, is apart."""
    parts = {name: [r["times"][name] for r in records if r["times"]] for name in records[0]["times"]}
    if not parts:
        return []
    later = {name: [s for episode in lists for s in episode[1:]] for name, lists in parts.items()}
    first = {name: [episode[0] for episode in lists] for name, lists in parts.items()}
    figures = []
    for metric, columns in (("control step", later), ("first control step", first)):
        own = [values for name, values in columns.items() if name not in WORLDS_TIME]
        columns = {**columns, "controller": _sums(own), "all": _sums(columns.values())}
        in_ms = {name: [1000 * s for s in values] for name, values in columns.items() if values}
        figures += [spread(f"{metric}: {name}", place, values, "ms") for name, values in in_ms.items()]
    return figures


def _sums(columns: Iterable[Sequence[float]]) -> list[float]:
    return [sum(row) for row in zip(*columns, strict=True)]


def share(metric: str, place: tuple[str, str], hits: int, count: int) -> Figure:
    """hits of count, with its 95 % Wilson interval."""
    low, high = wilson(hits, count)
    return _figure(metric, place, hits / count if count else 0.0, low, high, count, "share")


def spread(metric: str, place: tuple[str, str], values: Sequence[float], unit: str) -> Figure:
    """Median, and 5th and 95th percentiles."""
    low, value, high = np.percentile(np.asarray(values, float), [5, 50, 95]).tolist()
    return _figure(metric, place, value, low, high, len(values), unit)


def _figure(metric: str, place: tuple[str, str], value: float, low: float, high: float, count: int, unit: str) -> Figure:
    world, settings = place
    return {
        "metric": metric, "world": world, "settings": settings, "variant": VARIANT,
        "value": round(value, 5), "low": round(low, 5), "high": round(high, 5), "count": count, "unit": unit,
    }  # fmt: skip


def wilson(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    p, n = hits / count, count
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
