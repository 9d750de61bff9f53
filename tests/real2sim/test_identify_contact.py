"""Identification of what is thrown: free fall, where contact begins, windows from there, and friction found from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from samrl.core.errors import SamrlError
from samrl.model.scene import Params, Scene, State, compile_mjcf
from samrl.real2sim.identify.channels import Channel, make_channels
from samrl.real2sim.identify.columns import read_columns
from samrl.real2sim.identify.fit import fit
from samrl.real2sim.identify.flight import cut_from_contact
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.motion import Motion
from samrl.real2sim.identify.problem import Problem
from samrl.real2sim.identify.recording import Recording
from samrl.real2sim.identify.windows import states

EXAMPLES = Path(__file__).parents[2] / "examples" / "identify"
PERIOD = 1 / 148
WORDS = ["friction:cube", "contact-damping:cube"]


def cube() -> tuple[Scene, Params, list[Channel]]:
    scene, params, _ = compile_mjcf(EXAMPLES / "cube.xml", torch.float64)
    return scene, params, make_channels(scene, params, read_columns(EXAMPLES / "cube.yaml"))


def thrown(scene: Scene, params: Params, count: int, rows: int, noise: float = 0.0) -> tuple[list[Recording], State]:
    """Recordings of a cube that is thrown, with noise [m, and of quaternions] on each row, and the states of all rows."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    turn = torch.nn.functional.normalize(draw(count, 4), dim=1)
    q = torch.cat([torch.tensor([[0.0, 0.0, 0.22]], dtype=torch.float64).expand(count, -1), turn], 1)
    qd = torch.cat([0.3 * draw(count, 3) + torch.tensor([0.9, 0.0, 0.0]), 3 * draw(count, 3)], 1)
    later = Motion(scene, period=PERIOD, substep=1e-3, smooth=False).roll(params, State(q, qd), rows)
    all_q, all_qd = torch.cat([q[None], later.q]).transpose(0, 1), torch.cat([qd[None], later.qd]).transpose(0, 1)
    seen = (all_q + noise * draw(*all_q.shape)).numpy()
    names = ("x", "y", "z", "qw", "qx", "qy", "qz")
    return [Recording(f"t{i}", PERIOD, dict(zip(names, r.T, strict=True))) for i, r in enumerate(seen)], State(all_q, all_qd)


def test_a_body_falls_as_it_should() -> None:
    scene, params, _ = cube()
    start = State(
        torch.tensor([0.0, 0, 2, 1, 0, 0, 0], dtype=torch.float64), torch.tensor([1.0, 0, 1, 0, 2, 0], dtype=torch.float64)
    )
    motion = Motion(scene, period=0.02, substep=2e-3, smooth=False)
    rolled = motion.roll(params, start, 10)
    assert float(rolled.q[-1, 2]) == pytest.approx(2 + 0.2 - 9.81 * 0.2**2 / 2, abs=1e-12)
    assert float(rolled.qd[-1, 2]) == pytest.approx(1 - 9.81 * 0.2, abs=1e-12)
    state = start
    for _ in range(10):
        state = motion.step(params, state)
    assert torch.allclose(state.q, rolled.q[-1], atol=1e-12) and torch.allclose(state.qd, rolled.qd[-1], atol=1e-12)


def test_windows_begin_where_a_flight_ends() -> None:
    """The last row before contact, and there a state that is nearer to the truth than the row and the slopes around it."""
    scene, params, channels = cube()
    recordings, truth = thrown(scene, params, 12, 100, noise=5e-4)
    windows, notes = cut_from_contact(scene, params, recordings, channels, length=0.3)
    rows, each = np.round(windows.first / PERIOD).astype(int), np.arange(len(windows))
    assert not notes and len(windows) == 12 and windows.periods == 44
    falls = np.diff(truth.qd[..., 2].numpy(), axis=1) / PERIOD
    assert all((np.abs(f[:n] + 9.81) < 1e-6).all() for f, n in zip(falls, rows, strict=True))  # free until there,
    assert all((np.abs(f[n : n + 2] + 9.81) > 1e-3).any() for f, n in zip(falls, rows, strict=True))  # and touching soon
    read = [[x[n] for x in states(scene, r, channels)[:2]] for r, n in zip(recordings, rows, strict=True)]
    off = lambda found, exact: float((found - exact).norm(dim=1).median())  # noqa: E731
    q, qd = (torch.stack(x) for x in zip(*read, strict=True))
    places, speeds = truth.q[each, rows, :3], truth.qd[each, rows]
    assert off(windows.q[:, :3], places) < 0.7 * off(q[:, :3], places)  # a line through n points: at its end 2/√n of a point's
    assert off(windows.qd, speeds) < 0.4 * off(qd, speeds)


def test_what_rests_stays_and_what_moves_is_left_out() -> None:
    scene, params, channels = cube()
    recordings, _ = thrown(scene, params.replace(friction=params.friction * 3), 3, 110)
    whole, _ = cut_from_contact(scene, params, recordings, channels, length=0.4)
    first = round(float(whole.first[0]) / PERIOD)
    short = Recording("short", PERIOD, {k: v[: first + 20] for k, v in recordings[0].values.items()})
    flown = Recording("flown", PERIOD, {k: v[: first - 2] for k, v in recordings[0].values.items()})
    windows, notes = cut_from_contact(scene, params, [*recordings, short, flown], channels, length=1.5)
    assert len(windows) == 3 and torch.equal(windows.target[:, -1], windows.target[:, -80])
    assert torch.equal(windows.target[:, : whole.periods + 1], whole.target)
    assert len(notes) == 2 and "after its first contact, moving" in notes[0] and "no flight" in notes[1]
    with pytest.raises(SamrlError, match="no recording has a flight"):
        cut_from_contact(scene, params, [flown], channels, length=0.3)
    swing = compile_mjcf(EXAMPLES / "double_pendulum.xml", torch.float64)[:2]
    with pytest.raises(SamrlError, match="no free joint"):
        cut_from_contact(*swing, recordings, channels, length=0.3)


def test_adam_finds_friction_from_tosses() -> None:
    scene, params, channels = cube()
    free = Free(scene, params, WORDS)
    truth = free.numbers(torch.tensor([0.14, 4.0], dtype=torch.float64))  # from .2 and 2
    recordings, _ = thrown(scene, free.put(truth), 10, 90, noise=3e-4)
    windows, _ = cut_from_contact(scene, params, recordings, channels, length=0.4)
    found = fit(Problem(free, channels, windows), free.start, method="adam", epochs=40)
    assert torch.allclose(free.values(found.x), free.values(truth), rtol=0.07)
