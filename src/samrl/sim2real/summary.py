"""From episode records to the figures of summary.json.

A figure is {"metric", "world", "settings", "variant", "value", "low", "high", "count", "unit"}. Of a share, low and high are
its 95 % Wilson interval, of a paired difference Newcombe's, of a mean its 95 % interval; of everything else the value is the
median, low and high the 5th and 95th percentiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from samrl.core.runs import episode_key

MOMENTS = ("before", "after", "last")  # the first update, and the last one
WORLDS_TIME = ("look", "act")  # parts of a step that belong to the world, not to the controller
Figure = dict[str, Any]
Place = tuple[str, str, str]  # world, settings and variant
Record = dict[str, Any]


def figures(episodes: Iterable[Record]) -> tuple[list[Figure], list[Figure]]:
    """(results, times) of all episodes, by world, settings and variant. Only the times depend on the machine's speed."""
    results: list[Figure] = []
    times: list[Figure] = []
    episodes = list(episodes)
    won = {episode_key(e): bool(e["success"]) for e in episodes}
    for place, group in groupby(sorted(episodes, key=episode_key), key=lambda e: episode_key(e)[:3]):
        records = list(group)
        results += _outcomes(place, records) + _paired(place, won) + _choices(place, records) + pose_errors(place, records)
        times += _step_times(place, records)
    return results, times


def _outcomes(place: Place, records: Sequence[Record]) -> list[Figure]:
    won = [r for r in records if r["success"]]
    figures = [share("success", place, len(won), len(records))]
    if won:
        figures.append(spread("steps to success", place, [r["steps"] for r in won], "steps"))
    hung, steps = sum(r.get("rehung", 0) for r in records), sum(r["steps"] for r in records)
    if hung:
        figures.append(share("steps after which the twin was not finite", place, hung, steps))
    return figures


def _paired(place: Place, won: dict[tuple[Any, ...], bool]) -> list[Figure]:
    """How much more often the whole way succeeds than this variant, on the seeds that both have tried."""
    world, settings, variant = place
    full = (world, settings, "full")
    both = [(won[full + key[3:]], ok) for key, ok in won.items() if key[:3] == place and full + key[3:] in won]
    if variant == "full" or not both:
        return []
    value, low, high = paired_difference(both)
    return [_figure("success of full less this, same seeds", place, value, low, high, len(both), "share")]


def pose_errors(place: Place, records: Sequence[Record], moments: Sequence[str] = MOMENTS) -> list[Figure]:
    """Position and rotation error of each body's estimate at each moment."""
    return [
        spread(f"{body} {unit} {moment}", place, [r["errors"][body][moment][unit] for r in records], unit)
        for body in records[0]["errors"]
        for moment in moments
        for unit in ("mm", "deg")
    ]


def _choices(place: Place, records: Sequence[Record]) -> list[Figure]:
    """How often Q was lower after the look, with the action computed anew, than it was when the view was chosen."""
    told = [v for r in records for v in r["views"] if "q promised" in v]
    if not told:
        return []
    dropped = sum(v["q after"] < v["q promised"] for v in told)
    change = [v["q after"] - v["q promised"] for v in told]
    return [share("Q dropped after the look", place, dropped, len(told)), spread("change of Q by the look", place, change, "Q")]


def _step_times(place: Place, records: Sequence[Record]) -> list[Figure]:
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
    return figures + _controller_times(place, records)


def _controller_times(place: Place, records: Sequence[Record]) -> list[Figure]:
    """The controller's time in steps in which a view is chosen, and in those in which none is."""
    values: dict[str, list[float]] = {"where a view is chosen": [], "where none is": []}
    for r in (r for r in records if r["times"]):
        own = _sums([steps for name, steps in r["times"].items() if name not in WORLDS_TIME])
        chosen = {v["step"] for v in r["views"]}
        for i, seconds in enumerate(own[1:], 1):
            values["where a view is chosen" if i in chosen else "where none is"].append(1000 * seconds)
    return [spread(f"controller {where}", place, ms, "ms") for where, ms in values.items() if ms]


def views(states: Sequence[Record]) -> list[Figure]:
    """What the choice of a view is worth inside 𝓜 (learn/study.py). A view that is best or worst by half of its episodes is
    judged by the other half, so that luck is not taken for a good view; the best of nine is chosen on all other states."""
    place, n = ("twin", "nominal", "views"), len(states)
    if not n:
        return []
    halves = [(slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))]
    best, worst, mean = np.zeros(n), np.zeros(n), np.zeros(n)
    for i, state in enumerate(states):
        won, returns = np.array(state["success"]), np.array(state["return"])
        mean[i] = won.mean()
        for a, b in halves if won.shape[1] > 1 else [(slice(None), slice(None))]:
            by = returns[:, a].mean(1)
            best[i] += won[by.argmax(), b].mean() / 2
            worst[i] += won[by.argmin(), b].mean() / 2
    rows = {"best view": best, "mean view (a random one)": mean, "worst view": worst, "best of nine fixed views": _fixed(states)}
    rows["start view"] = np.array([np.mean(s["start"]["success"]) for s in states])
    for name in states[0]["chosen"]:
        rows[f"chosen by {name}"] = np.array([np.mean(s["chosen"][name]["success"]) for s in states])
    figures = [mean_of(f"views: {name}", place, values.tolist(), "share") for name, values in rows.items()]
    won = (rows["chosen by Q"] - mean).mean() / max(float((best - mean).mean()), 1e-9)
    interval = _bootstrap(best - mean, rows, mean)
    figures.append(_figure("views: share of the headroom that Q finds", place, float(won), *interval, n, "share"))
    rho = [r for s in states if np.isfinite(r := _spearman(s["q"], np.mean(s["return"], 1)))]
    cosine = [c for s in states for c in s["cosine"]]
    if rho:
        figures.append(mean_of("views: Spearman of Q with the return, within a state", place, rho, "rank correlation"))
    figures.append(spread("views: cosine of ∂Q/∂view with differences", place, cosine, "cosine"))
    return figures


def _fixed(states: Sequence[Record]) -> np.ndarray:
    """Success of the best single view of nine, chosen on all other states."""
    names = sorted({tuple(e["view"]) for s in states for e in s["nine"]})
    table = np.zeros((len(states), len(names)))  # out of reach counts as a failure
    for i, state in enumerate(states):
        for entry in state["nine"]:
            table[i, names.index(tuple(entry["view"]))] = np.mean(entry["success"])
    others = (table.sum(0) - table) if len(states) > 1 else table
    return table[np.arange(len(states)), others.argmax(1)]


def _bootstrap(room: np.ndarray, rows: dict[str, np.ndarray], mean: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the share of the headroom, over states."""
    k = np.random.default_rng(0).integers(len(room), size=(draws, len(room)))
    shares = (rows["chosen by Q"] - mean)[k].mean(1) / np.maximum(room[k].mean(1), 1e-9)
    low, high = np.percentile(shares, [2.5, 97.5]).tolist()
    return low, high


def _spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation; NaN where one of the two is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def mean_of(metric: str, place: Place, values: Sequence[float], unit: str) -> Figure:
    """Mean, and its 95 % interval by the normal approximation."""
    x = np.asarray(values, float)
    half = 1.96 * float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else 0.0
    return _figure(metric, place, float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, len(x), unit)


def _sums(columns: Iterable[Sequence[float]]) -> list[float]:
    return [sum(row) for row in zip(*columns, strict=True)]


def share(metric: str, place: Place, hits: int, count: int) -> Figure:
    """hits of count, with its 95 % Wilson interval."""
    low, high = wilson(hits, count)
    return _figure(metric, place, hits / count if count else 0.0, low, high, count, "share")


def spread(metric: str, place: Place, values: Sequence[float], unit: str) -> Figure:
    """Median, and 5th and 95th percentiles."""
    low, value, high = np.percentile(np.asarray(values, float), [5, 50, 95]).tolist()
    return _figure(metric, place, value, low, high, len(values), unit)


def _figure(metric: str, place: Place, value: float, low: float, high: float, count: int, unit: str) -> Figure:
    world, settings, variant = place
    return {
        "metric": metric, "world": world, "settings": settings, "variant": variant,
        "value": round(value, 5), "low": round(low, 5), "high": round(high, 5), "count": count, "unit": unit,
    }  # fmt: skip


def paired_difference(pairs: Sequence[tuple[bool, bool]]) -> tuple[float, float, float]:
    """Share of the first less that of the second, and its 95 % interval (Newcombe 1998, Statistics in Medicine 17:2635, method
    10)."""
    n = len(pairs)
    both, first, second = (sum(p == kind for p in pairs) for kind in ((True, True), (True, False), (False, True)))
    neither = n - both - first - second
    p, q = (both + first) / n, (both + second) / n
    (p_low, p_high), (q_low, q_high) = wilson(both + first, n), wilson(both + second, n)
    spread = math.sqrt((both + first) * (second + neither) * (both + second) * (first + neither))
    excess = both * neither - first * second
    phi = (max(excess - n / 2, 0) if excess > 0 else excess) / spread if spread else 0.0
    side = lambda a, b: math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))  # noqa: E731
    return p - q, p - q - side(p - p_low, q_high - q), p - q + side(p_high - p, q - q_low)


def wilson(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    p, n = hits / count, count
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
