"""Teach the flip to a policy that is told the state: PPO in the twin, no gradients, no waypoints.

    python benchmarks/flip/train.py flip.pt --seed 0

A Panda holds a spatula; a pancake, here a rigid disc of 120 mm, lies in a shallow pan. Success: lifted clear of the pan by 30 mm
and then lying in it upside down, at rest, within 80 steps of .1 s. Prints how many of 100 fresh starts are flipped in the task's
own twin (seeds from 10000), and leaves the policy for replay.py. Simulated."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from episodes import EPISODE, PLAIN, SOFT, FlipEpisodes

from samrl.learn import ppo
from samrl.sim2real.summary import wilson

SETTINGS = ppo.Settings()


@torch.no_grad()
def evaluate(policy: ppo.Policy, episodes: FlipEpisodes) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one episode in each environment: success, and lifted (n each)."""
    won, lifted, ended = torch.zeros(3, episodes.n, dtype=torch.bool)
    for _ in range(EPISODE):
        _, over, _, now = episodes.step(policy(episodes.features()[0]))
        won |= now & ~ended
        lifted |= episodes.lifted & ~ended
        ended |= over
    return won, lifted


def load(path: Path, episodes: FlipEpisodes) -> ppo.Policy:
    """The policy that was left."""
    policy = ppo.Policy(episodes.features()[0].shape[1], 6, SETTINGS)
    policy.load_state_dict(torch.load(path, weights_only=True))
    return policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--count", type=int, default=100, help="fresh starts in the end")
    given = parser.parse_args()
    torch.set_num_threads(1)
    episodes = FlipEpisodes(given.batch, given.seed, SOFT, (0.4, 0.3, 0.3), grow=True)
    learner = ppo.Learner(episodes, SETTINGS, given.seed, kinds=3)
    began, used = time.perf_counter(), time.process_time()

    def report(i: int, won: list[float]) -> None:
        if i % 10 == 9:
            shares = ", ".join(f"{w:.2f}" for w in won)
            soft = "soft" if episodes.physics == SOFT else "hard"
            print(f"{i + 1:4d}: {time.process_time() - used:4.0f} s, {soft}, won {shares}", flush=True)
            torch.save(learner.policy.state_dict(), given.out)

    ppo.train(learner, given.iterations, report)
    torch.save(learner.policy.state_dict(), given.out)
    took, busy = time.perf_counter() - began, time.process_time() - used
    won, lifted = evaluate(learner.policy, FlipEpisodes(given.count, 10000, PLAIN))
    low, high = wilson(int(won.sum()), given.count)
    print(
        f"{int(won.sum())} of {given.count} flipped ({low:.2f}-{high:.2f}), {int(lifted.sum())} lifted; trained in {took:.0f} s, "
        f"{busy:.0f} s of them of a processor"
    )


if __name__ == "__main__":
    main()
