"""Which crops to look at, and when the estimate counts as lost: the update from one image to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from samrl.core.camera import Camera, Roi
from samrl.core.types import RGBD
from samrl.core.world import World
from samrl.model.model import Model
from samrl.model.scene import Twin
from samrl.real2sim.frames import Crop, choose_roi, make_crop
from samrl.real2sim.update import UpdateReport, UpdateSettings, update


class Tracker:
    """Keeps a twin aligned through an episode. The first update is from far: one wide crop, several starts; the later ones
    are from near: one crop around each body.

    Args:
        camera: the whole native image's camera; its pose is set at each look.
    """

    WIDE, WIDE_SIZE = 0.32, 128  # the wide crop: metres across at least, pixels
    NEAR_SIZE, PIXEL = 64, 0.0012  # the near crops: pixels, metres a pixel

    def __init__(self, model: Model, camera: Camera, settings: UpdateSettings | None = None) -> None:
        self.model, self.camera = model, camera
        self.first = settings or UpdateSettings(bodies=model.updatable)
        self.later = replace(self.first, fine_steps=8, rate_p=0.0005, rate_r=0.005, rate_color=0.02)
        self.aligned = False

    def look(self, world: World, twin: Twin, X_WC: np.ndarray) -> list[RGBD]:
        """Take the images that the next update needs; a first look also centres the near crops."""
        self.camera = self.camera.at(torch.as_tensor(X_WC, dtype=torch.float64))
        return world.look(X_WC, self.rois(twin))

    def rois(self, twin: Twin) -> list[Roi]:
        """Regions of the native image around the projected estimate."""
        poses = self.model.poses(twin)
        if not self.aligned:
            middle = torch.stack([X[:3, 3] for X in poses.values()]).mean(0).double()
            return [choose_roi(self.camera, middle, self.WIDE_SIZE, self.PIXEL, self.WIDE)]
        return [choose_roi(self.camera, X[:3, 3].double(), self.NEAR_SIZE, self.PIXEL) for X in poses.values()]

    def crops(self, images: Sequence[RGBD]) -> list[Crop]:
        size = self.NEAR_SIZE if self.aligned else self.WIDE_SIZE
        return [make_crop(image, self.model.updatable, size, self.camera) for image in images]

    def update(self, twin: Twin, images: Sequence[RGBD]) -> tuple[Twin, UpdateReport]:
        """Align the twin with the images of `look`."""
        crops = self.crops(images)
        twin, report = update(self.model, twin, crops, self.later if self.aligned else self.first, lost=not self.aligned)
        self.aligned = self.aligned or not report.lost
        return twin, report

    def pictures(self, images: Sequence[RGBD], before: Twin, after: Twin) -> dict[str, np.ndarray]:
        """uint8 pictures of the first crop: world, twin before, twin after."""
        crop = self.crops(images[:1])[0] if images[0].camera.width % self.NEAR_SIZE == 0 else None
        if crop is None:
            return {}
        draw = lambda twin: self.model.render(twin, crop.camera).color.detach().numpy()  # noqa: E731
        pictures = {"world": crop.color.numpy(), "before": draw(before), "after": draw(after)}
        return {k: (v.clip(0, 1) * 255).astype(np.uint8) for k, v in pictures.items()}
