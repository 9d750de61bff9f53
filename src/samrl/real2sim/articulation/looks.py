"""Whole images cut to the body that moves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from samrl.core.camera import Roi
from samrl.core.errors import ImageError
from samrl.core.types import RGBD
from samrl.real2sim.frames import Crop, check_image, make_crop

WIDER = 1.5  # times as wide as what is seen of the body are its crops


def crop_to(look: RGBD, body: str, size: int, least: int) -> Crop:
    """The square of size × size pixels around a body's mask in a whole image. Raises: ImageError where the images do not
    compare, or where the mask has fewer than `least` pixels."""
    check_image(look, (body,))
    rows, columns = np.nonzero(np.asarray(look.masks[body]) > 0.5)
    if len(rows) < least:
        raise ImageError(f"a mask of '{body}' has {len(rows)} pixels of more than a half; {least} would do. Leave that look out.")
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    k = max(1, math.ceil(WIDER * extent / size))
    k += -k % 3 if k >= 10 else 0  # make_crop then reads every third row
    middle = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
    return make_crop(_cut(look, body, Roi.around(*middle, k * size)), (body,), size, look.camera)


def _cut(look: RGBD, body: str, roi: Roi) -> RGBD:
    """A region of a whole image, beyond whose border there is nothing."""

    def cut(image: Any) -> np.ndarray:
        image = np.asarray(image)
        out = np.zeros((roi.side, roi.side, *image.shape[2:]), image.dtype)
        top, left = max(roi.top, 0), max(roi.left, 0)
        part = image[top : max(roi.top + roi.side, 0), left : max(roi.left + roi.side, 0)]
        out[top - roi.top : top - roi.top + len(part), left - roi.left : left - roi.left + part.shape[1]] = part
        return out

    c = look.camera
    camera = replace(c, width=roi.side, height=roi.side, K=c.K - torch.tensor([0, 0, roi.left, roi.top], dtype=c.K.dtype))
    return RGBD(cut(look.color), cut(look.depth), cut(look.valid), {body: cut(look.masks[body])}, camera)
