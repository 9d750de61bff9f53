"""The kernels' parameters from Params: shared ones spread over a batch. What was made of the last Params is kept, for to make it
again takes longer than a short rollout of one environment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from samrl.model.physics.launch import LEAVES
from samrl.model.physics.layout import ContactLeaves, Layout
from samrl.model.scene import Params

_DIMS = {"vec3": 1, "mat33": 2, "vec6": 1, "real": 0}
_NAMES = [f.name for f in fields(Params)]
_KEPT_BATCHES = 4


@dataclass
class Leaves:
    """Arrays of LEAVES, and "bound", each shared (no batch) or with a batch; and flattened for batches that came."""

    made: dict[str, Tensor]
    _flat: dict[tuple[int, ...], dict[str, Tensor]] = field(default_factory=dict)

    def batch(self) -> list[tuple[int, ...]]:
        """The batch of each."""
        return [batch_of(name, leaf) for name, leaf in self.made.items()]

    def flat(self, batch: Sequence[int]) -> dict[str, Tensor]:
        """Each (E, ·), contiguous."""
        key, kept = tuple(batch), self._flat  # never changed, only replaced: threads may come at once
        if key not in kept:
            new = {n: flatten(x, batch, x.dim() - len(batch_of(n, x))) for n, x in self.made.items()}
            kept = {**(kept if len(kept) < _KEPT_BATCHES else {}), key: new}
            self._flat = kept
        return kept[key]


class LeafMaker:
    """Params -> Leaves, in float64 if `double`."""

    def __init__(self, layout: Layout, device: str, double: bool) -> None:
        self._layout, self._device, self._double = layout, device, double
        self._contact: dict[torch.dtype, ContactLeaves] = {}
        self._last: tuple[Params, tuple[int, ...], Leaves] | None = None

    def __call__(self, params: Params) -> Leaves:
        stamp, last = _stamp(params), self._last
        if stamp and last and last[0] is params and last[1] == stamp:
            return last[2]
        leaves = Leaves(self._make(params.to(torch.float64) if self._double else params))
        if stamp:
            self._last = (params, stamp, leaves)
        return leaves

    def _make(self, params: Params) -> dict[str, Tensor]:
        dtype = params.mass.dtype
        if dtype not in self._contact:
            with torch.inference_mode(False):
                self._contact[dtype] = ContactLeaves(self._layout, dtype, self._device)
        ours = self._contact[dtype](params)
        # the solver reads one half of a symmetric matrix: share its gradient between the halves
        ours["inertia"] = (params.inertia + params.inertia.transpose(-1, -2)) / 2
        return {name: ours[name] if name in ours else getattr(params, name) for name in (*LEAVES, "bound")}


def _stamp(params: Params) -> tuple[int, ...]:
    """How often each tensor has been written to; empty if what is made of them is not to be kept, having a gradient."""
    tensors = [getattr(params, name) for name in _NAMES]
    if torch.is_inference_mode_enabled() or any(x.requires_grad or x.is_inference() for x in tensors):
        return ()
    return tuple(x._version for x in tensors)


def batch_of(name: str, leaf: Tensor) -> tuple[int, ...]:
    """A leaf's batch shape, which is empty where it is shared."""
    axes = (0 if name == "bound" else _DIMS[LEAVES[name]]) + (0 if name == "gravity" else 1)
    return tuple(leaf.shape[: leaf.dim() - axes])


def flatten(x: Tensor, batch: Sequence[int], event: int) -> Tensor:
    """(*some batch, *event) -> (E, *event), contiguous."""
    shape = x.shape[x.dim() - event :]
    return x.expand(*batch, *shape).reshape(math.prod(batch), *shape).contiguous()
