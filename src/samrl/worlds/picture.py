"""What the worlds' renderers take and give: parts, a light, ideal pictures."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from samrl.tasks.spec import SceneSpec
from samrl.worlds.settings import Light
from samrl.worlds.shapes import Mesh, mesh_of


@dataclass(frozen=True)
class Part:
    """One rigid piece of what is drawn: the body that it belongs to, its surface in the body's frame (a mesh, or the path
    of an OBJ file), its colour (3) in [0, 1], whether it casts a shadow."""

    body: str
    surface: Mesh | str
    color: tuple[float, ...]
    casts: bool = True


@dataclass(frozen=True)
class Lighting:
    """direction (3): from the scene towards the light; ambient, diffuse, specular: shares; shadow: brightness left where the
    light does not reach; background: brightness behind everything."""

    direction: np.ndarray
    ambient: float
    diffuse: float
    specular: float
    shadow: float
    background: float

    @staticmethod
    def draw(light: Light, rng: np.random.Generator) -> Lighting:
        tilt, turn = rng.uniform(*light.tilt), rng.uniform(-math.pi, math.pi)
        direction = np.array([math.sin(tilt) * math.cos(turn), math.sin(tilt) * math.sin(turn), math.cos(tilt)])
        ambient, diffuse, shadow = (rng.uniform(*x) for x in (light.ambient, light.diffuse, light.shadow))
        return Lighting(direction, ambient, diffuse, light.specular, shadow, rng.uniform(*light.background))


@dataclass(frozen=True)
class Picture:
    """Ideal images: color (H, W, 3) in [0, 1]; depth (H, W) [m], infinite where nothing is hit; part (H, W) index of the
    part seen, -1 for none."""

    color: np.ndarray
    depth: np.ndarray
    part: np.ndarray


def parts_of(scene: SceneSpec, bodies: Sequence[str] | None = None) -> list[Part]:
    """The scene's simple solids as parts, of all bodies or of those named."""
    chosen = [b for b in scene.bodies if bodies is None or b.name in bodies]
    return [Part(b.name, mesh_of(s), s.color, s.shape != "plane") for b in chosen for s in b.solids]


class Renderer(Protocol):
    """Draws parts where they are told to be. Image axes: u right, v down, pixel centres at half-integers."""

    parts: list[Part]

    def place(self, poses: Mapping[str, np.ndarray]) -> None:
        """Put every body at its pose X_WB (4, 4)."""
        ...

    def render(
        self, K: np.ndarray, X_WC: np.ndarray, left: int, top: int, width: int, height: int, near: float, far: float
    ) -> Picture:
        """The window of `width` × `height` native pixels from (left, top), of a camera with K (4): fx, fy, cx, cy."""
        ...

    def close(self) -> None: ...


def has_pybullet() -> bool:
    """Whether PyBullet is installed; it has wheels for Python 3.10 and 3.11 alone."""
    return importlib.util.find_spec("pybullet") is not None


def make_renderer(parts: Sequence[Part], lighting: Lighting, focus: np.ndarray, order: Sequence[int] | None = None) -> Renderer:
    """PyBullet's software renderer; without PyBullet, MuJoCo's, which needs a graphics library. `order`: the order in which
    the renderer is given the parts; it changes nothing that is drawn."""
    if has_pybullet():
        from samrl.worlds.tiny_renderer import TinyRenderer

        return TinyRenderer(parts, lighting, focus, order)
    from samrl.worlds.gl_renderer import GlRenderer

    return GlRenderer(parts, lighting, focus, order)


def belongs(parts: Sequence[Part], bodies: Sequence[str]) -> np.ndarray:
    """(parts + 1) whether each part is one of the bodies'; the last, which index -1 takes, is not."""
    return np.array([part.body in bodies for part in parts] + [False])
