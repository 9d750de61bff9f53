"""MuJoCo's own renderer, for where PyBullet is not to be had: it needs a graphics library (EGL or OSMesa), no screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

import mujoco
import numpy as np

from samrl.core.errors import SamrlError
from samrl.worlds.picture import Lighting, Part, Picture
from samrl.worlds.shadows import Shadows

_MAX = (1408, 1024)  # largest window that can be drawn [px]


class GlRenderer:
    """Draws parts where they are told to be, as in picture.Renderer."""

    def __init__(self, parts: Sequence[Part], lighting: Lighting, focus: np.ndarray, order: Sequence[int] | None = None) -> None:
        self.parts = list(parts)
        order = list(range(len(self.parts))) if order is None else list(order)
        self._model = mujoco.MjModel.from_xml_string(_mjcf(self.parts, order, lighting, focus))
        self._data = mujoco.MjData(self._model)
        self._context = _offscreen_context()
        self._scene = mujoco.MjvScene(self._model, maxgeom=10 * len(self.parts))
        self._buffers = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._buffers)
        self._background = lighting.background
        self._shadows = Shadows(lighting, focus)

    def place(self, poses: Mapping[str, np.ndarray]) -> None:
        """Put every body at its pose X_WB (4, 4)."""
        for index, part in enumerate(self.parts):
            mocap = self._model.body(f"part{index}").mocapid[0]
            X = poses[part.body]
            self._data.mocap_pos[mocap] = X[:3, 3]
            mujoco.mju_mat2Quat(self._data.mocap_quat[mocap], X[:3, :3].ravel())
        mujoco.mj_forward(self._model, self._data)
        s = self._shadows
        self._aim(s.K, s.X_WL, 0, 0, s.pixels, s.pixels, s.near, s.far, casting=True)
        s.see(self._depth(s.pixels, s.pixels, s.near, s.far)[0])

    def render(
        self, K: np.ndarray, X_WC: np.ndarray, left: int, top: int, width: int, height: int, near: float, far: float
    ) -> Picture:
        """The window of `width` × `height` native pixels from (left, top), of a camera with K (4): fx, fy, cx, cy."""
        if width > _MAX[0] or height > _MAX[1]:
            raise SamrlError(f"a window of {width} × {height} pixels is more than the {_MAX[0]} × {_MAX[1]} that fit.")
        self._aim(K, X_WC, left, top, width, height, near, far, casting=False)
        rgb, _ = self._shoot(width, height, ids=False)
        depth, part = self._depth(width, height, near, far)
        color = np.where(part[..., None] >= 0, rgb.astype(np.float32) / 255, np.float32(self._background))
        return Picture(color * self._shadows.brightness(K, X_WC, left, top, depth)[..., None], depth, part)

    def _aim(
        self, K: np.ndarray, X_WC: np.ndarray, left: int, top: int, width: int, height: int, near: float, far: float,
        casting: bool,
    ) -> None:  # fmt: skip
        """Set the view up; `casting`: only of what casts a shadow."""
        self._context.make_current()
        option, camera, everything = mujoco.MjvOption(), mujoco.MjvCamera(), mujoco.mjtCatBit.mjCAT_ALL
        option.geomgroup[1] = not casting
        mujoco.mjv_updateScene(self._model, self._data, option, None, camera, everything, self._scene)
        fx, fy, cx, cy = K
        for eye in self._scene.camera:
            eye.pos, eye.forward, eye.up = X_WC[:3, 3], X_WC[:3, 2], -X_WC[:3, 1]
            eye.frustum_near, eye.frustum_far = near, far
            eye.frustum_center = near * (left + width / 2 - cx) / fx
            eye.frustum_width = near * width / 2 / fx
            eye.frustum_bottom, eye.frustum_top = near * (cy - top - height) / fy, near * (cy - top) / fy

    def _depth(self, width: int, height: int, near: float, far: float) -> tuple[np.ndarray, np.ndarray]:
        """Depth (H, W) [m], infinite where nothing is hit, and part (H, W)."""
        code, buffer = self._shoot(width, height, ids=True)
        part = self._table()[code.astype(np.int64) @ np.array([1, 256, 65536])]
        # reversed depth: 1 at the near plane, 0 at the far one
        depth = far * near / (near + buffer.astype(float) * (far - near))
        return np.where(part >= 0, depth, np.inf), part

    def _shoot(self, width: int, height: int, ids: bool) -> tuple[np.ndarray, np.ndarray]:
        """One pass: colours or id codes (H, W, 3), and the z-buffer (H, W)."""
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            self._scene.flags[flag] = ids
        window = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(window, self._scene, self._buffers)
        color, depth = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.float32)
        self._buffers.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        mujoco.mjr_readPixels(color, depth, window, self._buffers)
        return color[::-1], depth[::-1]

    def _table(self) -> np.ndarray:
        """Part by id code; 0 is the background."""
        table = np.full(self._scene.ngeom + 1, -1)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.segid >= 0:
                table[geom.segid + 1] = int(self._model.geom(geom.objid).name.removeprefix("part"))
        return table

    def close(self) -> None:
        if self._context is not None:
            self._buffers.free()
            self._context.free()
            self._context = None


def _mjcf(parts: Sequence[Part], order: Sequence[int], lighting: Lighting, focus: np.ndarray) -> str:
    """Every part as a body that is only put somewhere, under one light."""
    root = ET.Element("mujoco")
    visual = ET.SubElement(root, "visual")
    ET.SubElement(visual, "global", offwidth=str(_MAX[0]), offheight=str(_MAX[1]))
    ET.SubElement(visual, "quality", offsamples="0", shadowsize="0")
    ET.SubElement(visual, "headlight", active="0")
    asset, world = ET.SubElement(root, "asset"), ET.SubElement(root, "worldbody")
    grey = lambda x: _numbers([x] * 3)  # noqa: E731
    ET.SubElement(
        world, "light", directional="true", castshadow="false", pos=_numbers(focus + 2.5 * lighting.direction),
        dir=_numbers(-lighting.direction), ambient=grey(lighting.ambient), diffuse=grey(lighting.diffuse),
        specular=grey(lighting.specular),
    )  # fmt: skip
    for index in order:
        part, name = parts[index], f"part{index}"
        surface: dict[str, str] = {"file": str(part.surface)}
        if not isinstance(part.surface, str):
            arrays = {"vertex": part.surface.vertices, "normal": part.surface.normals, "face": part.surface.faces}
            surface = {k: _numbers(v.ravel()) for k, v in arrays.items()}
        ET.SubElement(asset, "mesh", {"name": name, "inertia": "shell", **surface})
        body = ET.SubElement(world, "body", name=name, mocap="true")
        ET.SubElement(
            body, "geom", name=name, type="mesh", mesh=name, rgba=_numbers((*part.color, 1.0)), contype="0",
            conaffinity="0", group="0" if part.casts else "1",
        )  # fmt: skip
    return ET.tostring(root, encoding="unicode")


def _numbers(values: object) -> str:
    return " ".join(f"{v:.9g}" for v in values)  # type: ignore[attr-defined]


def _offscreen_context():  # type: ignore[no-untyped-def]
    """A graphics context without a screen, by the first library that is found."""
    reasons = []
    for library in ("egl", "osmesa"):
        try:
            module = __import__(f"mujoco.{library}", fromlist=["GLContext"])
            context = module.GLContext(*_MAX)
            context.make_current()
            return context
        except Exception as error:  # whatever a graphics driver may raise
            reasons.append(f"{library}: {error}")
    raise SamrlError(
        "there is neither PyBullet nor a graphics library to draw the world with: install pybullet (Python 3.11), or the "
        f"packages libegl1 and libegl-mesa0 ({'; '.join(reasons)})."
    )
