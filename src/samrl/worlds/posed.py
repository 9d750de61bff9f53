"""A world without motion: any scene of simple solids, its joints where they are put, seen through the worlds' RGB-D camera.

MuJoCo says where its bodies are; their looks, the light, the shadows and the sensor's noise are those of the other worlds."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from samrl.core.camera import Camera
from samrl.core.errors import SceneError, UnknownNameError
from samrl.core.types import RGBD
from samrl.tasks.spec import Solid
from samrl.worlds.picture import Lighting, Part, belongs, make_renderer
from samrl.worlds.sensor import PADDING, SensorNoise
from samrl.worlds.settings import Settings
from samrl.worlds.shapes import mesh_of
from samrl.worlds.simulated import hand_eye_error

_NEAR, _FAR = 0.03, 8.0  # of what is drawn [m]
_SIZES = {"plane": 2, "sphere": 1, "capsule": 2, "cylinder": 2, "box": 3}  # how many numbers a shape has


class PosedWorld:
    """A scene that stands still while it is looked at.

    Args:
        mjcf: the true scene's text.
        settings: of the sensor, the light and the camera's calibration, see settings.yaml.
        seed: of both.
        focus: (3) point that shadows are computed around [m].

    Raises: SceneError for a scene that MuJoCo does not compile, or with solids that are not simple.
    """

    def __init__(self, mjcf: str, settings: Settings, seed: int, focus: np.ndarray) -> None:
        try:
            self._model = mujoco.MjModel.from_xml_string(mjcf)
        except ValueError as error:
            raise SceneError(f"the scene does not compile; MuJoCo says: {' '.join(str(error).split())}.") from error
        self._data = mujoco.MjData(self._model)
        self._names = [self._model.body(b).name or f"body {b}" for b in range(self._model.nbody)]
        rng = np.random.default_rng([seed, 4])
        lighting = Lighting.draw(settings.light, rng)
        self._X_CT = hand_eye_error(settings.hand_eye, rng).numpy()
        self._renderer = make_renderer([self._part(g) for g in range(self._model.ngeom)], lighting, focus)
        self._noise, self._exposures = SensorNoise(settings.sensor, seed), 0

    def put(self, joints: Mapping[str, float]) -> None:
        """Move hinges and slides to these coordinates [rad or m]."""
        names = [self._model.joint(j).name for j in range(self._model.njnt)]
        for name, q in joints.items():
            if name not in names:
                raise UnknownNameError("joint", name, names)
            self._data.joint(name).qpos[0] = q

    def poses(self) -> dict[str, np.ndarray]:
        """The truth: X_WB (4, 4) of every body."""
        mujoco.mj_kinematics(self._model, self._data)
        out = {}
        for b in range(self._model.nbody):
            X = np.eye(4)
            X[:3, :3], X[:3, 3] = self._data.xmat[b].reshape(3, 3), self._data.xpos[b]
            out[self._names[b]] = X
        return out

    def look(self, camera: Camera, bodies: tuple[str, ...]) -> RGBD:
        """One exposure by an unbatched camera, which stands where it says but for its calibration's error; masks of the bodies,
        each with all that hangs on it."""
        self._renderer.place(self.poses())
        pad, size = PADDING, (camera.width + 2 * PADDING, camera.height + 2 * PADDING)
        K, X_WC = (np.asarray(x, float) for x in (camera.K, camera.X_WC))
        picture = self._renderer.render(K, X_WC @ self._X_CT, -pad, -pad, *size, _NEAR, _FAR)
        color, depth, valid = self._noise.exposure(self._exposures).apply(picture, 0, 0)
        self._exposures += 1
        part = picture.part[pad:-pad, pad:-pad]
        masks = {name: belongs(self._renderer.parts, self._below(name))[part].astype(np.float32) for name in bodies}
        return RGBD(color, depth, valid, masks, camera)

    def close(self) -> None:
        """Give back what the renderer holds."""
        self._renderer.close()

    def _part(self, g: int) -> Part:
        """A geom as the renderers take it."""
        geom = self._model.geom(g)
        shape = mujoco.mjtGeom(int(geom.type[0])).name.removeprefix("mjGEOM_").lower()
        if shape not in _SIZES:
            raise SceneError(f"geom '{geom.name}' is a '{shape}'; a posed world draws {', '.join(_SIZES)}.")
        size, color = tuple(geom.size[: _SIZES[shape]]), tuple(geom.rgba[:3].tolist())
        solid = Solid(shape, size, tuple(geom.pos), tuple(geom.quat), color)
        return Part(self._names[int(geom.bodyid[0])], mesh_of(solid), color, shape != "plane")

    def _below(self, name: str) -> list[str]:
        """The body and all that hangs on it."""
        names = self._names
        if name not in names:
            raise UnknownNameError("body", name, names)
        out = [name]
        for b in range(1, self._model.nbody):
            if names[int(self._model.body_parentid[b])] in out:
                out.append(names[b])
        return out
