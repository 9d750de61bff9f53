"""Milliseconds of a transport plan between two clouds of points of a block, ours beside POT's exact one, in one process.

    python benchmarks/transport.py

The clouds are random points on the sides of the same block, the second moved by up to 3 cm and 17 degrees. Printed beside the
time: how much longer our plan is, and the least cosine of the gradients by the pose over all pairs of clouds."""

from __future__ import annotations

import argparse
from functools import partial

import torch

from samrl.core import lie
from samrl.real2sim.losses import Plan, exact_plan, paired_plan
from samrl.speed import best


def sides(count: int, generator: torch.Generator) -> torch.Tensor:
    p = torch.rand(count, 3, generator=generator)
    p[torch.arange(count), torch.randint(3, (count,), generator=generator)] = 1.0
    return (p - 0.5) * torch.tensor([0.09, 0.08, 0.05])


def judge(x: torch.Tensor, y: torch.Tensor, plan: Plan) -> tuple[float, torch.Tensor]:
    """Length of a plan, and its gradient by the pose of x."""
    i, j, mass = plan
    d = x[i] - y[j]
    unit = d / d.norm(dim=-1, keepdim=True) * mass[:, None]
    return float((d.norm(dim=-1) * mass).sum()), torch.cat([unit.sum(0), torch.linalg.cross(x[i], unit).sum(0) / 0.05])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(f"{args.pairs} pairs of clouds, one thread, means of ms")
    print("points  auction    POT  POT / auction  longer by  least cosine")
    for count in (128, 256, 512, 1024):
        rows = []
        for _ in range(args.pairs):
            move = (torch.rand(6, generator=generator) - 0.5) * torch.tensor([0.06] * 3 + [0.6] * 3)
            x, y = (sides(count, generator) for _ in range(2))
            y = lie.transform(lie.retract(torch.eye(4), move), y)
            (d0, g0), (d1, g1) = (judge(x, y, plan(x, y)) for plan in (exact_plan, paired_plan))
            cosine = float(torch.cosine_similarity(g0, g1, dim=0))
            ours, peer = (1e3 * best(partial(plan, x, y), 3) for plan in (paired_plan, exact_plan))
            rows.append([ours, peer, d1 / d0 - 1, cosine])
        ours, peer, longer, _ = torch.tensor(rows).mean(0).tolist()
        least = min(row[3] for row in rows)
        print(f"{count:6d}  {ours:7.2f}  {peer:5.1f}  {peer / ours:13.1f}  {longer:9.5f}  {least:12.5f}", flush=True)


if __name__ == "__main__":
    main()
