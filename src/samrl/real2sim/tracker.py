"""Which crops to look at, and when the estimate counts as lost: the update from one image to the next."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from samrl.core.camera import Camera, Roi
from samrl.core.types import RGBD
from samrl.core.world import World
from samrl.model.model import Model
from samrl.model.scene import Twin
from samrl.real2sim.frames import Crop, choose_roi, make_crop
from samrl.real2sim.update import UpdateReport, UpdateSettings, locate, update


class Tracker:
    """Keeps a twin aligned through an episode. A first update is from far: a wide crop and several starts bring the bodies
    near, then, as at every later step, one crop around each body.

    Args:
        camera: the whole native image's camera; its pose is set at each look.
    """

    WIDE, WIDE_SIZE, WIDE_PIXEL = 0.40, 96, 0.004  # the wide crop: metres across at least, pixels
    NEAR_SIZE, PIXEL = 96, 0.0012  # the near crops: pixels, metres a pixel

    def __init__(self, model: Model, camera: Camera, settings: UpdateSettings | None = None) -> None:
        self.model, self.camera = model, camera
        self.first = settings or UpdateSettings(bodies=model.updatable)
        self.later = replace(self.first, fine_steps=8, rate_p=0.0005, rate_r=0.005, rate_color=0.02)
        self.aligned = False

    def observe(self, world: World, twin: Twin, X_WC: np.ndarray) -> tuple[Twin, UpdateReport, list[RGBD], dict[str, float]]:
        """Look and align. Returns the twin, the report, the images of the last look, and seconds spent in look and update."""
        self.camera = self.camera.at(torch.as_tensor(X_WC, dtype=torch.float64))
        times = {"look": 0.0, "update": 0.0}
        if not self.aligned:
            with timed(times, "look"):
                images = world.look(X_WC, [self.wide_roi(twin)])
            with timed(times, "update"):
                twin = self.locate(twin, images[0])
        with timed(times, "look"):
            images = world.look(X_WC, self.rois(twin))
        with timed(times, "update"):
            twin, report = self.update(twin, images)
        return twin, report, images, times

    def wide_roi(self, twin: Twin) -> Roi:
        """A region of the native image around all bodies as they are believed to be."""
        middle = torch.stack([X[:3, 3] for X in self.model.poses(twin).values()]).mean(0).double()
        return choose_roi(self.camera, middle, self.WIDE_SIZE, self.WIDE_PIXEL, self.WIDE)

    def rois(self, twin: Twin) -> list[Roi]:
        """Regions of the native image around each projected estimate."""
        centers = [X[:3, 3].double() for X in self.model.poses(twin).values()]
        return [choose_roi(self.camera, p, self.NEAR_SIZE, self.PIXEL) for p in centers]

    def locate(self, twin: Twin, image: RGBD) -> Twin:
        """Bring the bodies near by a wide image."""
        return locate(self.model, twin, [make_crop(image, self.first.bodies, self.WIDE_SIZE, self.camera)], self.first)

    def crops(self, images: Sequence[RGBD]) -> list[Crop]:
        return [make_crop(image, self.first.bodies, self.NEAR_SIZE, self.camera) for image in images]

    def update(self, twin: Twin, images: Sequence[RGBD]) -> tuple[Twin, UpdateReport]:
        """Align the twin with near images."""
        twin, report = update(self.model, twin, self.crops(images), self.later if self.aligned else self.first)
        self.aligned = self.aligned or not report.lost
        return twin, report

    def pictures(self, images: Sequence[RGBD], before: Twin, after: Twin) -> dict[str, np.ndarray]:
        """uint8 pictures of the first crop: world, twin before, twin after."""
        crop = self.crops(images[:1])[0]
        draw = lambda twin: self.model.render(twin, crop.camera).color.detach().numpy()  # noqa: E731
        pictures = {"world": crop.color.numpy(), "before": draw(before), "after": draw(after)}
        return {k: (v.clip(0, 1) * 255).astype(np.uint8) for k, v in pictures.items()}


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that the block takes to times[name]."""
    began = time.perf_counter()
    yield
    times[name] = times.get(name, 0.0) + time.perf_counter() - began
