"""Windows that begin where a body that floats first touches something, from starts that all of its flight before tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from samrl.core.errors import SamrlError
from samrl.model.scene import FREE, Params, Scene, State
from samrl.real2sim.identify.channels import Channel, needs_links
from samrl.real2sim.identify.motion import Motion
from samrl.real2sim.identify.recording import Recording
from samrl.real2sim.identify.windows import Windows, every_row, measured_at, moved, sampling, states

_REST = 0.03, 0.05  # seconds at the end of a recording, and share of its mean speed below which it rests there
_LEAST, _MOST = 3, 0.2  # rows of a flight at least, and seconds of it that are used at most
_FELT = 1e-6  # difference of q̇ [m/s, rad/s] after steps with and without contact, above which there was some
_SMALL = 1e-6  # of a start's coordinates, for derivatives by differences
_ROUNDS = 4  # of Gauss-Newton: flight is nearly linear in its start


class Flight:
    """The part of recordings before contact.

    Args:
        params: unbatched, the first guess. What contact feels decides where it begins, and gravity where flight goes.
        step: [s] between rows; substep: the engine's longest [s].
    """

    def __init__(self, scene: Scene, params: Params, channels: Sequence[Channel], step: float, substep: float) -> None:
        airborne = replace(scene, pairs=np.zeros((0, 2), dtype=int))
        self.scene, self.params, self.channels, self.step = scene, params, channels, step
        self._touching = Motion(scene, period=step, substep=substep, smooth=False)
        self._airborne = Motion(airborne, period=step, substep=substep, smooth=False)

    def last_row(self, q: Tensor, qd: Tensor) -> int:
        """Of rows q (N, nq), q̇ (N, nv) the last before the first touch, which the engine feels on the way from it to the next; -1
        where there is no touch at all."""
        with torch.no_grad():
            after, freely = (m.step(self.params, State(q, qd)).qd for m in (self._touching, self._airborne))
        felt = ((after - freely).abs().amax(1) > _FELT).numpy()
        return int(felt.argmax()) if felt.any() else -1

    def fit(self, q: Tensor, qd: Tensor, z: Tensor) -> State:
        """The end of the flight that explains z (N, m) best, by Gauss-Newton from its first row q (nq), q̇ (nv)."""
        start, count, nv = State(q, qd), len(z) - 1, self.scene.nv
        nudges = torch.cat([torch.zeros(1, 2 * nv, dtype=q.dtype), _SMALL * torch.eye(2 * nv, dtype=q.dtype)])
        with torch.no_grad():
            for _ in range(_ROUNDS):
                tried = self._moved(start, nudges)
                q = torch.cat([tried.q[None], self._airborne.roll(self.params, tried, count).q])
                r = (self._seen(q).transpose(0, 1) - z).flatten(1)
                J = ((r[1:] - r[:1]) / _SMALL).T
                start = self._moved(start, -torch.linalg.lstsq(J, r[0, :, None], driver="gelsd").solution[:, 0])
            end = self._airborne.roll(self.params, State(start.q[None], start.qd[None]), count)
        return State(end.q[-1, 0], end.qd[-1, 0])

    def _moved(self, start: State, d: Tensor) -> State:
        """Starts with d (*batch, 2 nv), see `Problem`."""
        turn, push = d.split(self.scene.nv, -1)
        return State(moved(self.scene, start.q.expand(*d.shape[:-1], -1), turn), start.qd + push)

    def _seen(self, q: Tensor) -> Tensor:
        """z (*batch, m) of q (*batch, nq)."""
        poses = self._airborne.link_poses(self.params, q) if needs_links(self.channels) else None
        return torch.cat([c.predict(q, poses) for c in self.channels], -1)


def cut_from_contact(
    scene: Scene, params: Params, recordings: Sequence[Recording], channels: Sequence[Channel], *, length: float,
    rate: float | None = None, substep: float = 1e-3,
) -> tuple[Windows, list[str]]:  # fmt: skip
    """A window of each recording, `length` seconds from the last row before the first contact, and sentences about recordings
    that are left out.

    Slopes of neighbouring rows are a poor start for what is thrown: a window starts where the flight that explains all rows
    before it best has come to. A recording that ends sooner is taken to stay as it ended, if it came to rest there.

    Raises: SamrlError where nothing floats, or no recording has a flight and `length` seconds after it.
    """
    if FREE not in scene.joint_type:
        raise SamrlError("windows can begin at the first contact of a body that floats, but this scene has no free joint.")
    period, periods = sampling(recordings, length, rate)
    flights: dict[float, Flight] = {}
    kept: list[tuple[Tensor, Tensor, Tensor, int, float]] = []
    notes: list[str] = []
    for n, r in enumerate(recordings):
        flight = flights.setdefault(r.step, Flight(scene, params, channels, r.step, substep))
        q, qd, _ = states(scene, r, channels)
        end = flight.last_row(q, qd)
        rows = end + every_row(r, rate) * np.arange(periods + 1)
        z = measured_at(r, channels, np.arange(r.length))
        if end + 1 < _LEAST:
            notes.append(f"{r.name} is left out: it has no flight of {_LEAST} rows before a first contact.")
        elif rows[-1] >= r.length and not _rests(z[end:], r.step):
            notes.append(f"{r.name} is left out: it ends {(r.length - 1 - end) * r.step:.3g} s after its first contact, moving.")
        else:
            first = max(0, end - round(_MOST / r.step))
            start = flight.fit(q[first], qd[first], z[first : end + 1])
            kept.append((start.q, start.qd, z[np.minimum(rows, r.length - 1)], n, end * r.step))
    if not kept:
        raise SamrlError(f"no recording has a flight, a first contact and {length:g} s after it. {notes[0]}")
    starts, speeds, target, piece, at = zip(*kept, strict=True)
    names = tuple(r.name for r in recordings)
    return Windows(
        torch.stack(starts), torch.stack(speeds), torch.stack(target), period, np.array(piece), names, np.array(at), False
    ), notes  # fmt: skip


def _rests(z: Tensor, step: float) -> bool:
    """Whether motion z (N, m) has ended."""
    ways, last = z.diff(dim=0).norm(dim=1), round(_REST[0] / step)
    return len(ways) > last > 0 and float(ways[-last:].mean()) < _REST[1] * float(ways.mean())
