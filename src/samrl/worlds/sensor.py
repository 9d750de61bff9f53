"""What an RGB-D camera of the D435 kind makes of an ideal picture: exposure, noise, and places without a reading.

Seeded by (seed, index of the exposure). The noise is cut from patterns that tile the whole native image, so that two
regions of one exposure agree where they overlap.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from samrl.worlds.picture import Picture
from samrl.worlds.settings import Sensor

_TILE = 512
PADDING = 4  # native pixels that must be known around a region, so that its border is treated as its middle


class SensorNoise:
    """The noise patterns of one episode. fine: (4, n, n) standard normal for r, g, b and depth; smooth: (n, n) standard
    normal, correlated over `smooth_pixels`; both periodic. padding: native pixels that pictures have around a region."""

    padding = PADDING

    def __init__(self, sensor: Sensor, seed: int) -> None:
        self.sensor, self.seed = sensor, seed
        rng = np.random.default_rng([seed, 2])
        self._fine = rng.standard_normal((4, _TILE, _TILE), dtype=np.float32)
        smooth = ndimage.gaussian_filter(rng.standard_normal((_TILE, _TILE)), sensor.smooth_pixels, mode="wrap")
        self._smooth = (smooth / smooth.std()).astype(np.float32)

    def exposure(self, index: int) -> Exposure:
        return Exposure(self, index)

    def cut(self, pattern: np.ndarray, left: int, top: int, height: int, width: int) -> np.ndarray:
        """A window of a periodic pattern (n, n)."""
        rows, columns = (top + np.arange(height)) % _TILE, (left + np.arange(width)) % _TILE
        return pattern[rows[:, None], columns[None, :]]


class Exposure:
    """One exposure: one gain, one shift of the noise, for all its regions."""

    def __init__(self, noise: SensorNoise, index: int) -> None:
        rng = np.random.default_rng([noise.seed, 3, index])
        self._noise, self._sensor = noise, noise.sensor
        self.gain = np.float32(1 + noise.sensor.exposure * rng.uniform(-1, 1))
        self._shift = rng.integers(0, _TILE, (5, 2))

    def apply(self, picture: Picture, left: int, top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A picture with PADDING pixels on every side, whose unpadded corner is the native pixel (left, top) ->
        color (H, W, 3), depth (H, W) with zeros where there is no reading, valid (H, W)."""
        s, inner = self._sensor, (slice(PADDING, -PADDING),) * 2
        valid = has_reading(picture, s)[inner]
        color, depth = picture.color[inner], picture.depth[inner]
        h, w = depth.shape
        noise = self._noise
        rgb = np.stack([noise.cut(noise._fine[i], left + a, top + b, h, w) for i, (a, b) in enumerate(self._shift[:3])], -1)
        color = np.clip(color * self.gain + s.color_noise * rgb, 0, 1).astype(np.float32)
        (a, b), (c, d) = self._shift[3:]
        fine = noise.cut(noise._fine[3], left + a, top + b, h, w)
        smooth = noise.cut(noise._smooth, left + c, top + d, h, w)
        z = np.where(valid, depth, 0)
        z = z + z * z * (s.depth_noise * fine + s.depth_noise_smooth * smooth)
        return color, z.astype(np.float32), valid


def has_reading(picture: Picture, sensor: Sensor) -> np.ndarray:
    """(H, W) boolean: within the sensor's range, away from jumps of depth, and on something wide enough."""
    z = np.minimum(picture.depth, 1e3).astype(np.float32)
    n = 2 * sensor.edge_pixels + 1
    steady = ndimage.maximum_filter(z, n) - ndimage.minimum_filter(z, n) <= sensor.edge_step
    return steady & _wide(picture.part, sensor.thin_pixels) & (z > sensor.near) & (z < sensor.far)


def _wide(part: np.ndarray, n: int) -> np.ndarray:
    """Whether a pixel lies in some n × n square of one part (a morphological opening)."""
    part = part.astype(np.int16)
    uniform = ndimage.maximum_filter(part, n) == ndimage.minimum_filter(part, n)
    return ndimage.maximum_filter(uniform, n)
