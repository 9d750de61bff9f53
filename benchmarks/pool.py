"""Runs that differ only in their training seed, taken together: success by world, settings and variant, the worst training seed
by name, and the difference to the whole way on the same episodes. Intervals are over episodes, for these networks: how much
trainings differ is seen in the figures by training seed.

    python benchmarks/pool.py RUN RUN RUN
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from samrl.core import runs
from samrl.core.errors import SamrlError
from samrl.sim2real.summary import paired_difference, wilson

Place = tuple[str, str, str]  # world, settings, variant


def main(paths: list[Path]) -> None:
    won: dict[Place, dict[tuple[int, int], bool]] = defaultdict(dict)  # by training seed and episode's seed
    plans, seen = set(), set()
    for folder in map(runs.open_run, paths):
        training = folder.config["seed"]
        if training in seen:
            raise SamrlError(f"{folder.path} has training seed {training}, and so has another of these runs.")
        seen.add(training)
        commit = runs.read_json(folder.path / runs.ENVIRONMENT).get("commit")
        plans.add(str((commit, {k: v for k, v in folder.config.items() if k != "seed"})))
        for e in folder.episodes():
            won[e["world"], e["settings"], e["variant"]][training, e["seed"]] = e["success"]
    if len(plans) > 1:
        raise SamrlError("these runs differ in plan or commit, not in their training seed alone: do not take them together.")
    for place, found in sorted(won.items()):
        print(_line(place, found, won[(*place[:2], "full")]))


def _line(place: Place, found: dict[tuple[int, int], bool], full: dict[tuple[int, int], bool]) -> str:
    hits, n = sum(found.values()), len(found)
    low, high = wilson(hits, n)
    by_seed = {t: [ok for (seed, _), ok in found.items() if seed == t] for t, _ in found}
    shares = {t: sum(x) / len(x) for t, x in sorted(by_seed.items())}
    worst = min(shares, key=lambda t: shares[t])
    text = f"{', '.join(place)}: {hits}/{n} = {hits / n:.2f} ({low:.2f}-{high:.2f})"
    text += "; by training seed " + ", ".join(f"{t}: {s:.2f}" for t, s in shares.items()) + f"; worst {worst}"
    both = [(full[key], ok) for key, ok in found.items() if key in full]
    if place[2] != "full" and both:
        value, low, high = paired_difference(both)
        text += f"; full less this {value:+.2f} ({low:+.2f}-{high:+.2f}) on {len(both)} episodes"
    return text


if __name__ == "__main__":
    main([Path(a) for a in sys.argv[1:]])
