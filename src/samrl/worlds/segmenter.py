"""Masks from colour and depth alone, for worlds that give none: of a body that stands on the table, whatever is above the table
near to where the twin expects it and is not the arm, of any colours; of others what is near to there, of the colour found there.
It knows no truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from samrl.core.errors import ImageError
from samrl.core.types import RGBD

_TABLE_BAND = (0.04, 0.02, 0.01)  # points so near to the last fit take part in the next fit of the table [m]
_ABOVE = 0.007  # what is higher than this stands on the table [m]
_BESIDE, _BEFORE = 0.02, 0.05  # what is so near to where the arm should be seen, beside it and in depth, is the arm [m]
_EDGE = 0.01  # where depth changes more than this from a pixel to its neighbours, one thing ends and another begins [m]
_OUTLINE = 8  # along outlines depth fails in no wider bands than twice this; on what is wider, for being too near [pixels]
_PART = 0.02  # smaller pieces than this share of the largest are none of a standing body
_SLACK = 0.015  # heights of a body may differ from the expected ones by this [m]
_HUE = 0.035  # two chromaticities so near are one colour ...
_HUE_NOISE = 0.03  # ... and this much farther for a pixel whose channels add up to 1, as its noise has it
_BINS = 24
_SMOOTH = 5  # pixels across, over which the colour of what has no depth is averaged


@dataclass(frozen=True)
class Prior:
    """Where the twin expects a body, seen through the same camera.

    Attributes:
        mask: (H, W) expected coverage in [0, 1].
        depth: (H, W) expected depth there [m].
        reach: how far the body may be from there [m].
        standing: whatever stands there on the table, but the arm, is part of it.
    """

    mask: np.ndarray
    depth: np.ndarray
    reach: float
    standing: bool = False


@dataclass(frozen=True)
class _View:
    """One image, prepared. depth (H, W) [m] and height (H, W) above the table [m], NaN without a reading; hue (H, W, 3):
    chromaticity; light (H, W): sum of the channels; pixel: pixels a metre at the depth 1 m; arm (H, W): depth at which the arm
    should be seen [m], 0 elsewhere; is_arm (H, W): what is taken for it."""

    depth: np.ndarray
    height: np.ndarray
    hue: np.ndarray
    light: np.ndarray
    pixel: float
    arm: np.ndarray
    is_arm: np.ndarray


def segment(rgbd: RGBD, priors: Mapping[str, Prior], others: np.ndarray | None = None) -> RGBD:
    """The image with its masks replaced by segmented ones, one for each prior. A body that is not found has an empty
    mask. Bodies that do not stand come first: what they claim, no standing one gets. others (H, W): depth at which things that
    are none of the bodies should be seen [m], 0 elsewhere; those above the table are the arm."""
    color, depth = np.asarray(rgbd.color), np.asarray(rgbd.depth)
    for name, prior in priors.items():
        if np.shape(prior.mask) != depth.shape or np.shape(prior.depth) != depth.shape:
            raise ImageError(f"the prior of '{name}' is {np.shape(prior.mask)} pixels, the image {depth.shape}.")
    others = np.zeros(depth.shape) if others is None else np.asarray(others)
    if others.shape != depth.shape:
        raise ImageError(f"the depth of the others is {others.shape} pixels, the image {depth.shape}.")
    plane = _table(rgbd)
    above = lambda z: _points(rgbd, z) @ plane[:3] + plane[3]  # noqa: E731
    valid, light = np.asarray(rgbd.valid), color.sum(-1)
    arm = np.where((others > 0) & (above(others) > _ABOVE), others, 0.0)
    seen, pixel = np.where(valid, depth, np.nan), float(rgbd.camera.K[0])
    height, hue = np.where(valid, above(depth), np.nan), color / np.maximum(light, 1e-3)[..., None]
    view = _View(seen, height, hue, light, pixel, arm, _is_arm(seen, hue, arm, pixel))
    masks: dict[str, np.ndarray] = {}
    taken = np.zeros(depth.shape, bool)
    for name, prior in sorted(priors.items(), key=lambda item: item[1].standing):
        mask = _standing(view, prior, taken) if prior.standing else _find(view, prior, above(np.asarray(prior.depth)), taken)
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


def _is_arm(depth: np.ndarray, hue: np.ndarray, arm: np.ndarray, pixel: float) -> np.ndarray:
    """(H, W) where the arm should be seen and has about the depth that it should have; and beside that, for the twin draws it
    coarsely, what its surface goes on to, or what has its colour."""
    if not arm.any():
        return np.zeros(arm.shape, bool)
    off, at = ndimage.distance_transform_edt(arm <= 0, return_indices=True)
    there = arm[tuple(at)]
    expected = off == 0
    beside = (off <= _BESIDE * pixel / there) & ~(np.abs(depth - there) > _BEFORE)
    sure = beside & expected
    if not sure.any():
        return sure
    known = np.nan_to_num(depth, nan=-1.0)  # no reading is an edge too
    smooth = ndimage.maximum_filter(known, 3) - ndimage.minimum_filter(known, 3) < _EDGE
    grown = ndimage.binary_propagation(sure, mask=sure | smooth & (beside | expected))
    nearest = ndimage.distance_transform_edt(~grown, return_distances=False, return_indices=True)
    flat = ndimage.uniform_filter(hue, (_SMOOTH, _SMOOTH, 0))
    return grown | (beside & (np.abs(flat - flat[tuple(nearest)]).sum(-1) < _HUE))


def _around(view: _View, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) where the body may be, and the depth [m] at the nearest place where it is expected, which must be somewhere."""
    inside, depth = np.asarray(prior.mask) > 0.5, np.asarray(prior.depth)
    off, at = ndimage.distance_transform_edt(~inside, return_indices=True)
    return off <= prior.reach * view.pixel / float(np.median(depth[inside])), depth[tuple(at)]


def _standing(view: _View, prior: Prior, taken: np.ndarray) -> np.ndarray:
    """Mask (H, W) of a body that stands on the table: whole pieces, as long as they begin where it may be."""
    free = ~taken & ~view.is_arm & (np.nan_to_num(view.height, nan=-1.0) > _ABOVE)
    # where it is expected behind the arm, it may stand anywhere beside that
    body = _touching(free, _around(view, prior)[0] & free) if (np.asarray(prior.mask) > 0.5).any() else free
    labels, count = ndimage.label(body)
    if not count:
        return body
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    body = (sizes > _PART * sizes.max())[labels]
    blind = _blind_like(view, body) & ~taken
    near = ndimage.binary_dilation(blind, iterations=_SMOOTH)  # where two colours meet, smoothing makes a third
    body |= ndimage.binary_propagation(body, mask=body | near) & blind
    return ndimage.binary_fill_holes(body) & ~taken


def _blind_like(view: _View, body: np.ndarray) -> np.ndarray:
    """(H, W) where depth has no reading: along outlines and on sides that are seen at a grazing angle, where the colour is more
    that of the nearest pixel of the body than the table's; and on what is too near to be read, where it is not the table's."""
    table = np.abs(view.height) < _ABOVE
    if not table.any():
        return np.zeros(body.shape, bool)
    hue = ndimage.uniform_filter(view.hue, (_SMOOTH, _SMOOTH, 0))
    at = ndimage.distance_transform_edt(~body, return_distances=False, return_indices=True)
    to_body, to_table = (np.abs(hue - x).sum(-1) for x in (hue[tuple(at)], _main_hue(view.hue[table], np.ones(table.sum()))))
    unread = np.isnan(view.depth) & (view.light > 0) & ~view.is_arm
    wide = ndimage.distance_transform_edt(np.pad(unread, 1, mode="edge"))[1:-1, 1:-1] > _OUTLINE
    wide = ndimage.binary_propagation(wide, mask=unread & (to_table > 3 * _HUE))
    return unread & (to_body < to_table) | wide & (to_table > 3 * _HUE)


def _find(view: _View, prior: Prior, expected: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Mask (H, W) of a body that is held, of one colour. expected (H, W): heights of the prior's points [m]."""
    inside = np.asarray(prior.mask) > 0.5
    nothing = np.zeros(inside.shape, bool)
    if not inside.any():
        return nothing
    around, depth = _around(view, prior)
    low, high = np.percentile(expected[inside], (2, 98))
    free = around & ~taken & (np.nan_to_num(view.height, nan=-1.0) > max(_ABOVE, low - _SLACK))
    deep = np.abs(view.depth - depth) < prior.reach + _SLACK
    there = free & deep & (np.nan_to_num(view.height, nan=9.0) < high + _SLACK)
    if there.sum() < 10:
        return nothing
    hue = _main_hue(view.hue[there], np.where(inside[there], 1.0, 0.2) * np.where(view.arm[there] > 0, 0.2, 1.0))
    alike = np.abs(view.hue - hue).sum(-1) < _HUE + _HUE_NOISE / np.maximum(view.light, 0.1)
    body = _largest(there & alike)
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
