"""The residual where there is room for one: an actor trained for fewer iterations than the run's acts in another setting of the
world, SAC practises there, and both are tried on the same episodes.

    python benchmarks/residual.py RUN OUT --iterations 105 --steps 2000 --count 100 --seed 10000

OUT becomes a run folder of its own: RUN's expert, its learned sensing and its returns, the weaker actor, and a Q for that.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import yaml

from samrl import learning, pipeline
from samrl.benches import ACTOR, Q
from samrl.core import runs
from samrl.core.errors import SamrlError
from samrl.core.runs import CONFIG, LEARN, SIM2REAL, RunFolder
from samrl.plans import read_plan
from samrl.sim2real.summary import paired_difference, wilson


def weaker(run: Path, out: Path, settings: str, iterations: int, steps: int) -> RunFolder:
    """The run folder `out`, with everything learned; what is there already is kept, and must be of the same arguments."""
    config = yaml.safe_load((run / CONFIG).read_text())
    config["settings"], config["values"]["residual"] = settings, steps
    config["values"]["dagger"]["iterations"] = iterations
    if not out.exists():
        skipped = (ACTOR, Q, "done.json", SIM2REAL, "episodes.jsonl", "report.html", "summary.json", ".lock")
        begun = out.with_name(out.name + ".begun")  # a kill while copying leaves no folder that looks whole
        shutil.rmtree(begun, ignore_errors=True)
        shutil.copytree(run, begun, ignore=lambda _, names: [n for n in names if n in skipped])
        runs.write_atomic(begun / CONFIG, yaml.safe_dump(config, sort_keys=False).encode())
        begun.rename(out)
    folder = runs.open_run(out)
    if folder.config != config:
        raise SamrlError(f"{out} was made from another run or with other arguments; give another folder.")
    learning.train_actor(folder)
    learning.train_q(folder)
    shutil.copy(run / LEARN / "done.json", out / LEARN / "done.json")
    return folder


def compare(folder: RunFolder, seeds: range, workers: int) -> None:
    """Practise, and print both shares and their paired difference."""
    plan, won = read_plan(folder), {}
    with folder.lock():
        pipeline.sim2real(folder, plan.world, plan.settings, "no-residual", seeds, workers)
        pipeline.learn_residual(folder)
        pipeline.sim2real(folder, plan.world, plan.settings, "full", seeds, workers)
        pipeline.summarize(folder)
    for e in folder.episodes():
        won[e["variant"], e["seed"]] = bool(e["success"])
    for name, variant in (("without", "no-residual"), ("with", "full")):
        hits = sum(won[variant, s] for s in seeds)
        low, high = wilson(hits, len(seeds))
        print(f"{name} the residual: {hits}/{len(seeds)} = {hits / len(seeds):.2f} ({low:.2f}-{high:.2f})")
    value, low, high = paired_difference([(won["full", s], won["no-residual", s]) for s in seeds])
    print(f"difference on the same episodes: {value:+.2f} ({low:+.2f}-{high:+.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--settings", default="stress-dynamics")
    parser.add_argument("--iterations", type=int, default=105, help="of the weaker actor's training")
    parser.add_argument("--steps", type=int, default=2000, help="real steps of practice")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    a = parser.parse_args()
    folder = weaker(a.run, a.out, a.settings, a.iterations, a.steps)
    compare(folder, range(a.seed, a.seed + a.count), a.workers)


if __name__ == "__main__":
    main()
