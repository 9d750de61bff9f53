"""Milliseconds of one thread for an image and its gradient by geometry and colours, ours beside DEODR's, in one process.

    python3.11 -m venv peers && peers/bin/pip install -c constraints.txt -e . deodr==0.2.3 trimesh
    peers/bin/python benchmarks/render_peers.py

The scene of benchmarks/render.py with seven arm links (1276 triangles) and a smaller table, colour alone, antialiased. DEODR
starts from projected vertices, lit colours and the silhouette edges of the view, which are computed beforehand and not
counted; ours starts from poses and sizes and goes back to poses and camera. Checked first: that the images agree, and the
gradient by a shift of the image, which is that by the principal point for us and the sum over all vertices for DEODR."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from deodr.differentiable_renderer import Scene2D
from render import table_top, views

from samrl.core import lie
from samrl.core.camera import Camera
from samrl.model.render import Renderer
from samrl.model.render.meshes import Mesh, scene_mesh
from samrl.model.scene import Params, Scene
from samrl.speed import best

BACKGROUND = (0.1, 0.2, 0.1)


def flat_scene(scene: Scene, params: Params, X_WL: torch.Tensor, camera: Camera) -> Scene2D:
    """What DEODR draws: the view's vertices on the image, one for each pair of vertex and colour."""
    mesh, T, normals = scene_mesh(scene)
    geom, corner_geom = (np.repeat(np.arange(len(scene.geom_type)), np.diff(s)) for s in (mesh.vertex_start, mesh.corner_start))
    X_WG = (X_WL[scene.geom_link] @ lie.pose(params.geom_R, params.geom_p)).double().numpy()
    p_G = np.einsum("vij,vj->vi", T, params.geom_size.double().numpy()[geom])
    p_W = np.einsum("vij,vj->vi", X_WG[geom, :3, :3], p_G) + X_WG[geom, :3, 3]
    X_CW = np.linalg.inv(camera.X_WC.double().numpy())
    p_C = p_W @ X_CW[:3, :3].T + X_CW[:3, 3]
    fx, fy, cx, cy = camera.K.tolist()
    uv, z = np.stack([fx * p_C[:, 0] / p_C[:, 2] + cx, fy * p_C[:, 1] / p_C[:, 2] + cy], 1), p_C[:, 2]
    light = (params.light_direction / params.light_direction.norm()).double().numpy()
    cosine = np.einsum("cij,cj->ci", X_WG[corner_geom, :3, :3], normals) @ light
    lit = params.ambient.numpy() + params.diffuse.numpy() * 0.5 * (cosine + np.sqrt(cosine**2 + 0.05**2))[:, None]
    colors = params.color.numpy()[corner_geom] * lit
    pairs, index = np.unique(np.stack([mesh.faces.reshape(-1), mesh.corners.reshape(-1)]), axis=1, return_inverse=True)
    drawn = index.reshape(-1, 3).astype(np.uint32)
    flags, keep = outline(mesh, uv), (z[mesh.faces] > 0.01).all(1)
    faces, n = np.ascontiguousarray(drawn[keep]), pairs.shape[1]
    return Scene2D(
        faces=faces, faces_uv=np.zeros_like(faces), ij=uv[pairs[0]], depths=z[pairs[0]], textured=np.zeros(len(faces), bool),
        uv=np.zeros((1, 2)), shade=np.zeros(n), colors=colors[pairs[1]], shaded=np.zeros(len(faces), bool),
        edgeflags=np.ascontiguousarray(flags[keep]), height=camera.height, width=camera.width, nb_colors=3,
        texture=np.zeros((2, 2, 3)), background_color=np.array(BACKGROUND), clockwise=False, backface_culling=True,
        integer_pixel_centers=False,
    )  # fmt: skip


def outline(mesh: Mesh, uv: np.ndarray) -> np.ndarray:
    """(F, 3) whether the edge from vertex k to k + 1 of a face is on the view's outline."""
    a, b, c = (uv[mesh.faces[:, k]] for k in range(3))
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    front = ux * vy - uy * vx < 0
    edge = {(f, frozenset((e[0], e[1]))): e[5 - i] for e in mesh.edges.tolist() for i, f in ((2, e[2]), (3, e[3])) if f >= 0}
    flags = np.zeros(mesh.faces.shape, bool)
    for f, face in enumerate(mesh.faces.tolist()):
        for k in range(3):
            other = edge[f, frozenset((face[k], face[(k + 1) % 3]))]
            flags[f, k] = other < 0 or front[f] != front[other]
    return flags


def draw_peer(flat: Scene2D, weight: np.ndarray) -> tuple[np.ndarray, Any]:
    """DEODR's image and its gradient by vertices on the image and by colours."""
    image, _ = flat.render(sigma=1)
    flat.clear_gradients()
    flat.render_backward(weight)
    return image, flat.ij_b


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def compare(size: int, count: int, repeats: int) -> str:
    """A row of the table: difference of the images, cosine of the gradients, milliseconds."""
    scene, params, X_WL = table_top(7)
    params.geom_size[0, :2] = 0.2  # DEODR leaves out what reaches behind the camera
    ours, X_WL = Renderer(scene, background=BACKGROUND, threads=1), X_WL.requires_grad_()
    many = views(size, count)
    one = many.at(many.X_WC[0])
    coarse = torch.randn(1, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    weight = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")[0].permute(1, 2, 0).contiguous()
    weights = weight.double().numpy()
    flat = flat_scene(scene, params, X_WL.detach(), one)
    K = one.K.clone().requires_grad_()
    image = ours.render(params, X_WL, Camera(size, size, K, one.X_WC)).color
    (shift,) = torch.autograd.grad((image * weight).sum(), K)
    peer, by_vertex = draw_peer(flat, weights)
    differ = float(np.abs(peer - image.detach().numpy()).mean())
    agree = cosine(shift[2:].double().numpy(), by_vertex.sum(0))

    def step(camera: Camera) -> None:
        moved = camera.X_WC.clone().requires_grad_()
        color = ours.render(params, X_WL, camera.at(moved)).color
        torch.autograd.grad(color, [X_WL, moved], weight.expand_as(color).contiguous())

    single, batch = 1e3 * best(lambda: step(one), repeats), 1e3 * best(lambda: step(many), repeats) / count
    theirs = 1e3 * best(lambda: draw_peer(flat, weights), repeats)
    return f"{size:4d}  {differ:16.4f}  {agree:6.4f}  {single:11.2f}  {batch:17.2f}  {theirs:10.2f}  {batch / theirs:12.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--views", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"least of {args.repeats}, one thread, ms a view")
    print(f"size  images differ by  cosine  ours, 1 view  ours, {args.views:2d} views  DEODR, 1 view  ours / DEODR")
    for size in (64, 128, 256):
        print(compare(size, args.views, args.repeats), flush=True)


if __name__ == "__main__":
    main()
