"""Windows: short pieces of motion, each with the state it starts from. Chaotic motion is predicted over a window, not a
recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.errors import SamrlError
from samrl.model.scene import BALL, FREE, Scene
from samrl.real2sim.identify.channels import Channel
from samrl.real2sim.identify.recording import Recording
from samrl.real2sim.identify.slopes import speeds, spread


@dataclass(frozen=True)
class Windows:
    """W windows of T periods.

    Attributes:
        q (W, nq), qd (W, nv): where each starts, as it was read.
        target: (W, T + 1, m) what was measured then and after each period.
        period: [s].
        piece: (W) int, which recording each is of; names: of the recordings; first: (W) time within it [s].
        measured_speeds: velocities were recorded, not made of neighbouring rows.
        spread: (W, 2 nv) how far off starts may have been read (`slopes.spread`); None where nobody knows.
    """

    q: Tensor
    qd: Tensor
    target: Tensor
    period: float
    piece: np.ndarray
    names: tuple[str, ...]
    first: np.ndarray
    measured_speeds: bool
    spread: Tensor | None = None

    def __len__(self) -> int:
        return len(self.q)

    @property
    def periods(self) -> int:
        return self.target.shape[1] - 1

    def cut_short(self, periods: int) -> Windows:
        """The first periods of each window."""
        return replace(self, target=self.target[:, : periods + 1])

    def every(self, periods: int) -> Windows:
        """The same windows with a sample after so many periods; what is left over at their ends is not compared."""
        return replace(self, target=self.target[:, ::periods], period=self.period * periods)

    def of(self, chosen: np.ndarray | Tensor) -> Windows:
        """Some of the windows, by indices or a mask."""
        index = torch.as_tensor(chosen)
        rows = index.numpy()
        return replace(
            self, q=self.q[index], qd=self.qd[index], target=self.target[index], piece=self.piece[rows], first=self.first[rows],
            spread=None if self.spread is None else self.spread[index],
        )  # fmt: skip


def cut(
    scene: Scene, recordings: Sequence[Recording], channels: Sequence[Channel], *, length: float, rate: float | None = None,
    stride: float | None = None,
) -> Windows:  # fmt: skip
    """Windows `length` seconds long, sampled `rate` times a second (as recorded where it is not given), one every `stride`
    seconds (one after the other where it is not given).

    Raises: SamrlError where the rate does not divide the recordings', or no recording is as long.
    """
    parts: list[tuple[Tensor, Tensor, Tensor, np.ndarray, np.ndarray, Tensor]] = []
    period, measured = sampling(recordings, length, rate)[0], True
    for n, recording in enumerate(recordings):
        every, periods = every_row(recording, rate), round(length / period)
        first = np.arange(0, recording.length - periods * every, max(round((stride or length) / recording.step), 1))
        if not len(first):
            continue
        q, qd, recorded = states(scene, recording, channels)
        rows = first[:, None] + every * np.arange(periods + 1)
        off = torch.from_numpy(spread(scene, q.numpy(), qd.numpy() if recorded else None, recording.step)[first])
        z = measured_at(recording, channels, rows)
        parts.append((q[first], qd[first], z, np.full(len(first), n), first * recording.step, off))
        measured &= recorded
    if not parts:
        longest = max((r.length - 1) * r.step for r in recordings)
        raise SamrlError(f"no recording is as long as a window of {length:g} s; the longest has {longest:.3g} s.")
    q, qd, target, piece, first_at, off_by = zip(*parts, strict=True)
    names = tuple(r.name for r in recordings)
    return Windows(
        torch.cat(q), torch.cat(qd), torch.cat(target), period, np.concatenate(piece), names, np.concatenate(first_at), measured,
        torch.cat(off_by),
    )  # fmt: skip


def sampling(recordings: Sequence[Recording], length: float, rate: float | None) -> tuple[float, int]:
    """Seconds from sample to sample, the same in all recordings, and how many of these a window has."""
    period = 0.0
    for recording in recordings:
        own = every_row(recording, rate) * recording.step
        if period and not np.isclose(own, period, rtol=1e-3):
            raise SamrlError(f"{recording.name} has another rate than the recordings before it; give --rate, which divides all.")
        period = period or own
    if round(length / period) < 1:
        raise SamrlError(f"a window of {length:g} s holds no sample, which are {period:g} s apart; give a longer window or rate.")
    return period, round(length / period)


def measured_at(recording: Recording, channels: Sequence[Channel], rows: np.ndarray) -> Tensor:
    """z* (*rows, m) at some rows."""
    return torch.from_numpy(np.concatenate([c.target(recording.values) for c in channels], 1)[rows])


def every_row(recording: Recording, rate: float | None) -> int:
    """Rows from sample to sample. Raises SamrlError where the rate does not divide the recording's."""
    if rate is None:
        return 1
    rows = 1 / (rate * recording.step)
    if round(rows) < 1 or abs(rows - round(rows)) > 0.01 * rows:
        fastest = 1 / recording.step
        fitting = ", ".join(f"{fastest / k:.4g}" for k in (1, 2, 3, 4, 5, 8, 10))
        raise SamrlError(f"{recording.name} has {fastest:.4g} rows a second, which {rate:g} does not divide; {fitting} do.")
    return round(rows)


def states(scene: Scene, recording: Recording, channels: Sequence[Channel]) -> tuple[Tensor, Tensor, bool]:
    """q (N, nq) and q̇ (N, nv) of every row, and whether velocities were recorded."""
    q, qd = np.full((recording.length, scene.nq), np.nan), np.full((recording.length, scene.nv), np.nan)
    for channel in channels:
        if (told := channel.coordinates(recording.values)) is not None:
            q[:, told[0]] = told[1]
        if (told := channel.speeds(recording.values)) is not None:
            qd[:, told[0]] = told[1]
    unknown = [n for i, n in enumerate(scene.joint_names) if scene.nd[i] and np.isnan(q[:, scene.q_adr[i]]).any()]
    if unknown:
        raise SamrlError(
            f"the recordings do not tell joint {', '.join(repr(n) for n in unknown)}, so a window's start is not known; give "
            "its column."
        )
    recorded = not np.isnan(qd).any()
    if not recorded:
        qd = np.where(np.isnan(qd), speeds(scene, q, recording.step), qd)
    return torch.from_numpy(q), torch.from_numpy(qd), recorded


def moved(scene: Scene, q: Tensor, d: Tensor) -> Tensor:
    """Coordinates q (*batch, nq) moved by d (*batch, nv): rotations by a rotation vector in the body's axes, the rest by a
    sum."""
    parts: list[Tensor] = []
    for i, kind in enumerate(scene.joint_type):
        a, v, n = int(scene.q_adr[i]), int(scene.v_adr[i]), int(scene.nd[i])
        if not n:
            continue
        lead = {BALL: 0, FREE: 3}.get(int(kind), n)
        parts.append(q[..., a : a + lead] + d[..., v : v + lead])
        if kind in (BALL, FREE):
            R = lie.matrix_from_quat(q[..., a + lead : a + lead + 4]) @ lie.exp_so3(d[..., v + lead : v + lead + 3])
            parts.append(lie.quat_from_matrix(R))
    return torch.cat(parts, -1)
