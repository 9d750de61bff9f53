"""Small networks and what they need."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp(sizes: list[int], generator: torch.Generator, out_scale: float = 1.0) -> nn.Sequential:
    """Linear layers with ELU in between; orthogonal weights drawn from `generator`, the last scaled by `out_scale`."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        layer = nn.Linear(a, b)
        last = i == len(sizes) - 2
        nn.init.orthogonal_(layer.weight, out_scale if last else 2**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer] if last else [layer, nn.ELU()]
    return nn.Sequential(*layers)


def scales(v: Tensor, widths: tuple[float, ...]) -> Tensor:
    """The same vector seen at several scales: (*batch, n) -> (*batch, n * len(widths)), each tanh(v / width)."""
    return torch.cat([torch.tanh(v / w) for w in widths], -1)
