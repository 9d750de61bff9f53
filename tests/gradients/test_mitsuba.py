"""Images and gradients against Mitsuba 3's projective sampling, an independent reference. It needs Mitsuba and LLVM 19:

    pip install mitsuba==3.9.1
    apt-get install libllvm19
    DRJIT_LIBLLVM_PATH=/usr/lib/x86_64-linux-gnu/libLLVM.so.19.1 pytest tests/gradients/test_mitsuba.py

Every surface shines in its own colour, with no light and no shadow, so that only geometry counts. No view has solids that pass
through each other: Mitsuba does not sample the curve where they do."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import TURN, Picture
from views import STILL, TABLE, VIEWS, View

from samrl.core import lie
from samrl.model.render import Renderer
from samrl.model.render.meshes import scene_mesh

mi: Any = pytest.importorskip("mitsuba", reason="Mitsuba is not installed")
try:
    mi.set_variant("llvm_ad_rgb")
    import drjit as dr

    dr.eval(dr.arange(mi.Float, 4) + 1)
except Exception as error:
    pytest.skip(f"Mitsuba finds no LLVM that it can use: {error}", allow_module_level=True)

SIZE, SAMPLES, PASSES = 64, 512, 4


def over_table(name: str) -> View:
    """A view whose solids are clear of one another."""
    view = VIEWS[name]()
    bodies = {n: (solids[:1], p, w) for n, (solids, p, w) in view.bodies.items()} | {"table": ([TABLE], *STILL)}
    return dataclasses.replace(view, bodies=bodies)


class Reference:
    """The same view in Mitsuba: a mesh for each body, which emits its colour."""

    def __init__(self, picture: Picture, folder: Path) -> None:
        mesh, T, _ = scene_mesh(picture.scene)
        self.picture, self.points = picture, {}
        c, X = picture.camera, picture.camera.X_WC.double().numpy() @ np.diag([-1.0, -1.0, 1.0, 1.0])
        scene: dict[str, Any] = {"type": "scene", "integrator": {"type": "direct_projective"}}
        scene["sensor"] = {
            "type": "perspective", "fov": math.degrees(2 * math.atan(0.5 * SIZE / float(c.K[0]))), "fov_axis": "x",
            "near_clip": 0.01, "to_world": mi.ScalarTransform4f(X.tolist()),
            "film": {"type": "hdrfilm", "width": SIZE, "height": SIZE, "rfilter": {"type": "box"}, "pixel_format": "rgb"},
        }  # fmt: skip
        back = {"type": "rgb", "value": list(picture.view.background)}
        scene["sky"] = {"type": "constant", "radiance": back}
        for g, name in enumerate(picture.names):
            vertices = slice(mesh.vertex_start[g], mesh.vertex_start[g + 1])
            p_L = torch.from_numpy(T[vertices] @ picture.params.geom_size[g].double().numpy())
            p_W = lie.transform(picture.X_WL[g + 1].double(), p_L)
            faces = mesh.faces[(mesh.face_part == g)] - mesh.vertex_start[g]
            self.points[name] = p_L
            write_ply(folder / f"{name}.ply", p_W.numpy(), faces)
            color = {"type": "rgb", "value": picture.params.color[g].tolist()}
            shine = {"type": "area", "radiance": color}
            scene[name] = {"type": "ply", "filename": str(folder / f"{name}.ply"), "face_normals": True, "emitter": shine}
        self.scene = mi.load_dict(scene)

    def image_and_gradient(self, body: str, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image (S, S, 3) and, for weights (n, S, S, 3), gradients (n, 6) of the weighted sums by the body's pose."""
        params = mi.traverse(self.scene)
        key = f"{body}.vertex_positions"
        image, gradients = 0.0, np.zeros((len(weights), 6))
        for seed in range(PASSES):
            for k, w in enumerate(weights):
                dr.enable_grad(params[key])
                params.update()
                out = mi.render(self.scene, params, spp=SAMPLES, seed=seed)
                dr.backward(dr.sum(out * mi.TensorXf(w.astype(np.float32)), axis=None))
                g = np.array(dr.grad(params[key])).reshape(-1, 3)
                gradients[k] += self._by_pose(body, g) / PASSES
                params[key] = dr.detach(params[key])
            image = image + np.array(out) / PASSES
        return image, gradients

    def _by_pose(self, body: str, g: np.ndarray) -> np.ndarray:
        d = torch.zeros(6, requires_grad=True, dtype=torch.float64)
        X = lie.retract(self.picture.X_WL[self.picture.names.index(body) + 1].double(), d * torch.tensor([1.0] * 3 + [TURN] * 3))
        (lie.transform(X, self.points[body]) * torch.from_numpy(g).double()).sum().backward()
        return d.grad.numpy()


def write_ply(path: Path, points: np.ndarray, faces: np.ndarray) -> None:
    head = ["ply", "format ascii 1.0", f"element vertex {len(points)}", *(f"property float {a}" for a in "xyz")]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    rows = [" ".join(f"{x:.9g}" for x in p) for p in points] + ["3 " + " ".join(map(str, f)) for f in faces]
    path.write_text("\n".join([*head, *rows, ""]))


@pytest.mark.parametrize("name", ["table top", "half out", "needle 2.2"])
def test_image_and_gradient_are_mitsubas(name: str, tmp_path: Path) -> None:
    picture = Picture(over_table(name), SIZE)
    picture.params = picture.params.replace(
        ambient=torch.ones_like(picture.params.ambient), diffuse=torch.zeros_like(picture.params.diffuse)
    )
    reference, body = Reference(picture, tmp_path), picture.view.moving[0]
    weights = picture.weights[:2, :3].permute(0, 2, 3, 1).numpy()
    want, want_g = reference.image_and_gradient(body, weights)
    renderer = Renderer(picture.scene, background=picture.view.background)
    x = torch.zeros(6, requires_grad=True)
    X = list(picture.X_WL)
    i = picture.names.index(body) + 1
    X[i] = lie.retract(X[i], x * torch.tensor([1.0] * 3 + [TURN] * 3))
    image = renderer.render(picture.params, torch.stack(X), picture.camera).color
    sums = torch.einsum("hwc,khwc->k", image.double(), torch.from_numpy(weights))
    got_g = np.stack([torch.autograd.grad(s, x, retain_graph=True)[0].numpy() for s in sums])
    assert np.abs(image.detach().numpy() - want).mean() < 2e-3
    cosine = float((got_g * want_g).sum() / np.sqrt((got_g**2).sum() * (want_g**2).sum()))
    assert cosine > 0.999, f"cosine {cosine:.4f}, lengths {np.linalg.norm(got_g) / np.linalg.norm(want_g):.4f}"
