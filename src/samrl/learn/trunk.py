"""What the actor makes of one crop: features, and where in it the tip of the load and its target are.

A place is found as a distribution over cells, of which the mean is taken (integral regression, Sun et al. 2018), and its depth is
read from the image where that says it is: numbers that a network only puts out are learned more slowly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

from samrl.core.nets import mlp

SIZE = 64  # pixels across a crop
CELLS = 16  # cells across, in which places are sought
CHANNELS = 5  # colour, depth about the tip's, whether there is any
PER_CROP = 256  # features of a crop
LAYERS = (24, 32, 48, 64)  # channels of the convolutions, each of which halves the image
FINEST = 1  # of these, the level that has CELLS
SHALLOW = 0.6  # widths of the crop before and behind its middle in which depth is read: what is beyond is no part of either
HALF = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # convolutions train in half precision where the processor can: 1.6 x as fast


@dataclass(frozen=True)
class Glimpse:
    """Of crops (n). features: (n, PER_CROP); logits: (n, 2, CELLS² + 1) of the cell where tip and target are, or that it is none;
    uv: (n, 2, 2) their mean, -1 to 1 across the crop; depth: (n, 2) behind the crop's middle, in its widths; axes: (n, 2, 3)."""

    features: Tensor
    logits: Tensor
    uv: Tensor
    depth: Tensor
    axes: Tensor

    @property
    def inside(self) -> Tensor:
        """The probability (n, 2) that they are in the crop."""
        return 1 - self.logits.softmax(-1)[..., -1]


class Trunk(nn.Module):
    """Crops (n, SIZE, SIZE, CHANNELS) -> Glimpse: convolutions that know where they look, and what they found at all scales
    brought together at CELLS x CELLS (Lin et al. 2017)."""

    grid: Tensor
    cells: Tensor

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("grid", _grid(SIZE).permute(2, 0, 1)[None], persistent=False)
        self.register_buffer("cells", _grid(CELLS).flip(-1).reshape(-1, 2), persistent=False)
        steps = list(zip((CHANNELS, *LAYERS), LAYERS, strict=False))
        self.place = _convolution(2, LAYERS[0], generator, stride=2)  # of the grid, once for the whole batch
        self.down = nn.ModuleList(_convolution(a, b, generator, stride=2) for a, b in steps)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in LAYERS)
        m = LAYERS[2]
        self.across = nn.ModuleList(_convolution(b, m, generator, kernel=1) for b in LAYERS[FINEST:])
        smooth = _convolution(m, m, generator)
        self.found = nn.Sequential(
            nn.ReLU(True), smooth, nn.BatchNorm2d(m), nn.ReLU(True), _convolution(m, 12, generator, kernel=1)
        )
        self.rest = nn.Sequential(nn.Flatten(), mlp([LAYERS[-1] * (SIZE // 16) ** 2, PER_CROP], generator), nn.ELU())
        self.outside = mlp([PER_CROP, 2], generator)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> Glimpse:
        half = self.training and HALF
        x = image.to(torch.bfloat16 if half else self.grid.dtype).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            levels = []
            for i, (down, norm) in enumerate(zip(self.down, self.norms, strict=True)):
                x = down(x) + self.place(self.grid) if i == 0 else down(x)
                x = relu(norm(x), inplace=True)
                levels.append(x)
            *finer, y = (across(level) for across, level in zip(self.across, levels[FINEST:], strict=True))
            for level in reversed(finer):
                y = level + interpolate(y, scale_factor=2.0)
            maps = self.found(y)
        features = self.rest(x.float())
        return self._found(image, features, maps.float().flatten(2).unflatten(1, (2, 6)))

    def _found(self, image: Tensor, features: Tensor, maps: Tensor) -> Glimpse:
        """From maps (n, 2, 6, CELLS²): the logit of being there, how far behind what is seen, the axis, and what is added to the
        logit where it comes to the depth's being read there."""
        logit, behind, axes, attention = maps.split([1, 1, 3, 1], 2)
        near = torch.where(image[..., 4] > 0.5, image[..., 3], 2.0).to(maps.dtype)
        nearest = -max_pool2d(-near, SIZE // CELLS).flatten(1)
        readable = nearest.abs() < SHALLOW
        read = torch.where(readable[:, None], (logit + attention)[:, :, 0], -30.0).softmax(-1)
        there = logit[:, :, 0].softmax(-1)
        depth = torch.einsum("nkc,nc->nk", read, nearest.clamp(-SHALLOW, SHALLOW)) + (there * behind[:, :, 0]).sum(-1)
        logits = torch.cat([logit[:, :, 0], self.outside(features)[..., None]], -1)
        return Glimpse(features, logits, there @ self.cells, depth, torch.einsum("nkc,nkdc->nkd", there, axes))


def expected(uv: Tensor) -> Tensor:
    """What a glimpse's logits should say of places uv (n, 2, 2), -1 to 1 across the crop: probabilities (n, 2, CELLS² + 1), of
    the four cells around a place such that their mean is there, or of its being outside."""
    at = (uv + 1) / 2 * CELLS - 0.5
    inside = ((at > -0.5) & (at < CELLS - 0.5)).all(-1)
    low = at.floor()
    share = torch.stack([1 - (at - low), at - low], -1)  # (n, 2, across or down, before or behind)
    out = uv.new_zeros(*uv.shape[:2], CELLS * CELLS + 1)
    for right in (0, 1):
        for down in (0, 1):
            x, y = (low + low.new_tensor([right, down])).clamp(0, CELLS - 1).long().unbind(-1)
            weight = share[..., 0, right] * share[..., 1, down] * inside
            out.scatter_add_(-1, (y * CELLS + x)[..., None], weight[..., None])
    out[..., -1] = (~inside).to(out.dtype)
    return out


def _grid(n: int) -> Tensor:
    """Middles (n, n, 2) of the cells of the square from -1 to 1: down, across."""
    line = (torch.arange(n) + 0.5) / n * 2 - 1
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)


def _convolution(a: int, b: int, generator: torch.Generator, *, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    conv = nn.Conv2d(a, b, kernel, stride=stride, padding=kernel // 2)
    gain = 2**0.5 if kernel > 1 else 0.5  # before a ReLU; where levels are added and maps begin, small
    nn.init.normal_(conv.weight, std=gain / (a * kernel * kernel) ** 0.5, generator=generator)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
