"""Masks from colour and depth alone, for worlds that give none: what stands above the table, near to where the twin expects
a body, of the colour found there. It knows no truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from samrl.core.errors import ImageError
from samrl.core.types import RGBD

_TABLE_BAND = (0.04, 0.02, 0.01)  # points so near to the last fit take part in the next fit of the table [m]
_ABOVE = 0.007  # what is higher than this stands on the table [m]
_SLACK = 0.015  # heights of a body may differ from the expected ones by this [m]
_ENOUGH = 0.1  # so much of the expected area must be found before higher places are looked at
_HUE = 0.035  # two chromaticities so near are one colour ...
_HUE_NOISE = 0.03  # ... and this much farther for a pixel whose channels add up to 1, as its noise has it
_BINS = 24


@dataclass(frozen=True)
class Prior:
    """Where the twin expects a body, seen through the same camera.

    Attributes:
        mask: (H, W) expected coverage in [0, 1].
        depth: (H, W) expected depth there [m].
        reach: how far the body may be from there [m].
        standing: whatever stands there on the table is part of it.
    """

    mask: np.ndarray
    depth: np.ndarray
    reach: float
    standing: bool = False


@dataclass(frozen=True)
class _View:
    """One image, prepared. height (H, W): above the table [m], NaN without a reading; hue (H, W, 3): chromaticity; light
    (H, W): sum of the channels; pixel: pixels a metre at the depth 1 m."""

    height: np.ndarray
    hue: np.ndarray
    light: np.ndarray
    pixel: float


def segment(rgbd: RGBD, priors: Mapping[str, Prior]) -> RGBD:
    """The image with its masks replaced by segmented ones, one for each prior. A body that is not found has an empty
    mask. Bodies that do not stand come first: what they claim, no standing one gets."""
    color, depth = np.asarray(rgbd.color), np.asarray(rgbd.depth)
    for name, prior in priors.items():
        if np.shape(prior.mask) != depth.shape or np.shape(prior.depth) != depth.shape:
            raise ImageError(f"the prior of '{name}' is {np.shape(prior.mask)} pixels, the image {depth.shape}.")
    plane = _table(rgbd)
    height = np.where(np.asarray(rgbd.valid), _points(rgbd, depth) @ plane[:3] + plane[3], np.nan)
    light = color.sum(-1)
    view = _View(height, color / np.maximum(light, 1e-3)[..., None], light, float(rgbd.camera.K[0]))
    masks: dict[str, np.ndarray] = {}
    taken = np.zeros(depth.shape, bool)
    for name, prior in sorted(priors.items(), key=lambda item: item[1].standing):
        expected = _points(rgbd, np.asarray(prior.depth)) @ plane[:3] + plane[3]
        mask = _find(view, prior, expected, taken)
        taken |= mask
        masks[name] = mask.astype(np.float32)
    return replace(rgbd, masks={name: masks[name] for name in priors})


def _points(rgbd: RGBD, depth: np.ndarray) -> np.ndarray:
    """World points (H, W, 3) of a depth image [m]."""
    h, w = depth.shape
    fx, fy, cx, cy = (float(x) for x in rgbd.camera.K)
    u, v = (np.arange(w) + 0.5 - cx) / fx, (np.arange(h) + 0.5 - cy) / fy
    p_C = np.stack([depth * u, depth * v[:, None], depth], -1)
    X = np.asarray(rgbd.camera.X_WC)
    return p_C @ X[:3, :3].T + X[:3, 3]


def _table(rgbd: RGBD) -> np.ndarray:
    """The table's plane (4): n · p + d is the height above it. Near the world's z = 0, fitted to what is seen there, since
    the calibration may be off; z = 0 itself where too little is seen."""
    plane = np.array([0.0, 0.0, 1.0, 0.0])
    points = _points(rgbd, np.asarray(rgbd.depth))[np.asarray(rgbd.valid)][::7]
    for band in _TABLE_BAND:
        near = points[abs(points @ plane[:3] + plane[3]) < band]
        if len(near) < 200:
            return plane
        # a least-squares plane z = a x + b y + c through centred points
        middle = near.mean(0)
        a, b = np.linalg.lstsq(near[:, :2] - middle[:2], near[:, 2] - middle[2], rcond=None)[0]
        n = np.array([-a, -b, 1.0]) / np.sqrt(a * a + b * b + 1)
        if n[2] < 0.99:
            return plane
        plane = np.array([*n, -n @ middle])
    return plane


def _find(view: _View, prior: Prior, expected: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """One body's mask (H, W). expected (H, W): heights of the prior's points [m]."""
    inside = np.asarray(prior.mask) > 0.5
    nothing = np.zeros(inside.shape, bool)
    if not inside.any():
        return nothing
    reach = prior.reach * view.pixel / float(np.median(np.asarray(prior.depth)[inside]))
    around = ndimage.distance_transform_edt(~inside) <= reach
    low, high = np.percentile(expected[inside], (2, 98))
    low = _ABOVE if prior.standing else max(_ABOVE, low - _SLACK)
    free = around & ~taken & (np.nan_to_num(view.height, nan=-1.0) > low)
    for slack in (_SLACK, 2 * _SLACK, 4 * _SLACK):
        there = free & (np.nan_to_num(view.height, nan=9.0) < high + slack)
        if there.sum() > _ENOUGH * inside.sum() or not prior.standing:
            break
    if there.sum() < 10:
        return nothing
    hue = _main_hue(view.hue[there], np.where(inside[there], 1.0, 0.2))
    alike = np.abs(view.hue - hue).sum(-1) < _HUE + _HUE_NOISE / np.maximum(view.light, 0.1)
    body = _largest(there & alike)
    if prior.standing:
        # its top may lie higher than expected, what it stands on may have another colour
        taller = free & alike & (np.nan_to_num(view.height, nan=9.0) < high + prior.reach)
        below = there & ~ndimage.binary_dilation(taken, iterations=2)
        body = _touching(_touching(taller, body) | below, body)
    # depth fails along the outline: there the colour alone decides
    blind = np.isnan(view.height) & alike & around & ~taken
    return ndimage.binary_fill_holes(ndimage.binary_dilation(body, iterations=4, mask=body | blind)) & ~taken


def _main_hue(hue: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The commonest chromaticity (3) among (n, 3): the peak of a smoothed histogram, then the mean about it."""
    edges = np.linspace(0, 1, _BINS + 1)
    counts, _, _ = np.histogram2d(hue[:, 0], hue[:, 1], bins=(edges, edges), weights=weight)
    smooth = ndimage.gaussian_filter(counts, 0.7)
    peak = (np.array(np.unravel_index(smooth.argmax(), smooth.shape)) + 0.5) / _BINS
    near = np.abs(hue[:, :2] - peak).max(-1) < 1.5 / _BINS
    return np.average(hue[near], axis=0, weights=weight[near]) if near.any() else np.array([*peak, 1 - peak.sum()])


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax() if count else mask


def _touching(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected parts of a mask that hold some of the seed."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return np.isin(labels, np.unique(labels[seed & mask])) & mask
