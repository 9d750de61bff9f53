"""The renderer of the twin: antialiased colour, depth and masks with gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import warp as wp
from torch import Tensor

from samrl.core.camera import Camera
from samrl.core.errors import ImageError, check_finite
from samrl.core.types import RGBD
from samrl.model.render.autograd import Draw, FreeSubject, SolidSubject, TexturedSubject
from samrl.model.render.image import DeviceMesh, Settings
from samrl.model.render.kernels import geometry
from samrl.model.render.meshes import Mesh, scene_mesh
from samrl.model.scene import PLANE, Params, Scene

MAX_MASKS = 31
PARAMETERS = ("geom_p", "geom_R", "geom_size", "color", "light_direction", "ambient", "diffuse")


class Renderer:
    """Renders a scene's solids. Differentiable by link poses, camera (pose and intrinsics) and the parameters in
    PARAMETERS; in depth inside surfaces only, unless `mean_depth`. Each pixel is the mean over its area: what is seen of every
    edge, and of every curve along which solids pass through each other, is found exactly. Solids are seen from outside only and
    cast no shadows. The lighting law is in `kernels.geometry.light_solids`; colours are not clamped at 1.

    Args:
        scene: structure; its visible geoms are drawn.
        masks: names of the bodies that get a mask (31 at most), or of masks with the bodies that they show.
        moving: names of the bodies whose poses get a gradient (default: all). Naming the few that move saves time: edges away
            from them are not smoothed.
        detail: factor on the number of segments of round solids, or (ng) factors for each geom.
        near: nothing nearer to the camera than this is drawn [m].
        background: colour where there is nothing.
        threads: threads for a batch on the CPU.
        mean_depth: a pixel's depth is the harmonic mean over its area, what is nothing being infinitely far; this mixes
            surfaces at edges, but has a gradient there. Else it is the depth at the pixel's centre.
    """

    def __init__(
        self, scene: Scene, *, masks: Sequence[str] | Mapping[str, Sequence[str]] = (), moving: Sequence[str] | None = None,
        detail: float | np.ndarray = 1.0, near: float = 0.01, background: tuple[float, float, float] = (0.0, 0.0, 0.0),
        threads: int = 2, device: str | torch.device = "cpu", mean_depth: bool = False,
    ) -> None:  # fmt: skip
        if len(masks) > MAX_MASKS:
            raise ImageError(f"{len(masks)} masks were asked for; a renderer has {MAX_MASKS} at most.")
        self.scene, self.masks = scene, tuple(masks)
        self.settings = Settings(near, background, threads, str(device), mean_depth)
        mesh, T, normals = scene_mesh(scene, detail)
        link = scene.geom_link.astype(np.int32)
        bits = np.zeros(len(link), np.int32)
        shown = masks if isinstance(masks, Mapping) else {name: (name,) for name in masks}
        for i, bodies in enumerate(shown.values()):
            bits |= np.isin(link, [scene.link(b) for b in bodies]).astype(np.int32) << i
        moves = np.ones(len(link), bool) if moving is None else np.isin(link, [scene.link(n) for n in moving])
        self.mesh = DeviceMesh(mesh, self.settings, link, moves, bits, len(masks))
        self.subject = SolidSubject(self.mesh, _solids(self.mesh, scene, T, normals))

    @property
    def triangles(self) -> int:
        return len(self.mesh.mesh.faces)

    def render(self, params: Params, X_WL: Tensor, camera: Camera) -> RGBD:
        """Image of the scene with its links at X_WL (*batch, nl, 4, 4). Parameters, poses and camera are each shared by the
        batch (no batch axes of their own) or have its shape. Returns torch tensors: color (*batch, H, W, 3), depth
        (*batch, H, W) [m], 0 where there is nothing, valid, masks (*batch, H, W): coverage in [0, 1]."""
        return self.render_links(params, X_WL, camera)[0]

    def render_links(self, params: Params, X_WL: Tensor, camera: Camera) -> tuple[RGBD, Tensor]:
        """`render`, and the link that each pixel's depth belongs to: (*batch, H, W) int32, -1 where there is nothing."""
        leaves = [(X_WL, 3), (camera.X_WC, 2), (camera.K, 1)]
        leaves += [(getattr(params, n), r) for n, r in zip(PARAMETERS, (2, 3, 2, 2, 1, 1, 1), strict=True)]
        batch, inputs = _flatten(leaves, self.settings.device)
        size = (_check_size(camera, batch), camera.height, camera.width)
        out = Draw.apply(self.subject, size, *inputs)
        return _rgbd(out, batch, self.masks, camera, self.settings.mean_depth)


class SurfaceRenderer:
    """Renders free, closed surfaces given by their vertices: cloth with a front and a back layer, tubes, whatever is not a
    scene's solid. Differentiable by vertices, colours, texture and camera.

    Args:
        mesh: from `surface_mesh`.
        mask: whether the surface's coverage is returned too, as mask "surface".
        uv: (F, 3, 2) where in a texture the corners of each face lie: (0, 0) is the first corner of its first row, (1, 1) the
            last of its last (v goes down, as in glTF; of OBJ's take 1 - v); beyond, it is repeated.
    """

    def __init__(self, mesh: Mesh, settings: Settings | None = None, *, mask: bool = False, uv: np.ndarray | None = None) -> None:
        part = np.zeros(1, np.int32)
        self.settings = settings or Settings()
        self.masks = ("surface",) if mask else ()
        if uv is not None and np.shape(uv) != (len(mesh.faces), 3, 2):
            raise ImageError(f"uv has shape {np.shape(uv)}; it takes {(len(mesh.faces), 3, 2)}, two numbers a corner of a face.")
        if uv is not None:
            uv = np.asarray(uv, np.float32)
            check_finite("uv", uv)
        surface = DeviceMesh(mesh, self.settings, part, part == 0, part + int(mask), len(self.masks), free=True, uv=uv)
        self.subject = FreeSubject(surface) if uv is None else TexturedSubject(surface)

    def render(self, vertices_W: Tensor, colors: Tensor, camera: Camera, texture: Tensor | None = None) -> RGBD:
        """Image of vertices (*batch, V, 3) [m] in the world with colours (*batch, C, 3) at the mesh's corners (lit already).
        Where the renderer has `uv`, they are multiplied by a texture (*batch, Ht, Wt, 3), bilinear between its texels and taken
        at 2 × 2 points a pixel: much finer ones than that should be made coarser before. Batches as in `Renderer.render`."""
        if isinstance(self.subject, TexturedSubject) != (texture is not None):
            raise ImageError("a texture needs a renderer with uv, and that a texture: one came without the other.")
        if texture is not None:
            _check_texture(texture)
        leaves = [(vertices_W, 2), (colors, 2), (camera.X_WC, 2), (camera.K, 1)]
        batch, inputs = _flatten(leaves if texture is None else [*leaves, (texture, 3)], self.settings.device)
        size = (_check_size(camera, batch), camera.height, camera.width)
        out = Draw.apply(self.subject, size, *inputs)
        return _rgbd(out, batch, self.masks, camera, self.settings.mean_depth)[0]


def rasterize(vertices_W: Tensor, colors: Tensor, mesh: Mesh, camera: Camera, settings: Settings | None = None) -> RGBD:
    """`SurfaceRenderer.render`, once."""
    return SurfaceRenderer(mesh, settings).render(vertices_W, colors, camera)


def _solids(mesh: DeviceMesh, scene: Scene, T: np.ndarray, normals: np.ndarray) -> geometry.Solids:
    solids, m = geometry.Solids(), mesh.mesh
    parts = np.arange(len(scene.geom_type))
    solids.T = mesh.upload(T, geometry.Mat36)
    solids.normals = mesh.upload(normals, wp.vec3)
    solids.part_of_vertex = mesh.upload(np.repeat(parts, np.diff(m.vertex_start)).astype(np.int32), int)
    solids.part_of_corner = mesh.upload(np.repeat(parts, np.diff(m.corner_start)).astype(np.int32), int)
    solids.vertex_start = mesh.upload(m.vertex_start, int)
    solids.corner_start = mesh.upload(m.corner_start, int)
    solids.link = mesh.upload(mesh.part_link, int)
    solids.is_plane = mesh.upload((scene.geom_type == PLANE).astype(np.int32), int)
    return solids


def _flatten(leaves: list[tuple[Tensor, int]], device: str) -> tuple[torch.Size, list[Tensor]]:
    """Leaves with the rank of one item each -> the common batch shape, and float32 leaves (1 or batch, *item)."""
    shapes = [x.shape[: x.dim() - rank] for x, rank in leaves]
    batched = {s for s in shapes if s}  # spares the usual case torch's slow general answer
    batch = torch.broadcast_shapes(*batched) if len(batched) > 1 else next(iter(batched), torch.Size())
    flat = []
    for (x, rank), shape in zip(leaves, shapes, strict=True):
        if shape.numel() != 1 and shape != batch:
            x = x.expand(*batch, *x.shape[x.dim() - rank :])
        x = x if x.dtype is torch.float32 and x.device == torch.device(device) else x.to(device, torch.float32)
        flat.append(x.reshape(-1, *x.shape[x.dim() - rank :]).contiguous())
    return batch, flat


def _check_size(camera: Camera, batch: torch.Size) -> int:
    """Number of images, at least one; raises if there is nothing to render."""
    count = batch.numel()
    if camera.width < 1 or camera.height < 1 or count < 1:
        raise ImageError(f"an image of {camera.width} x {camera.height} pixels in a batch of {count} cannot be rendered.")
    return count


def _check_texture(texture: Tensor) -> None:
    if texture.dim() < 3 or texture.shape[-1] != 3 or 0 in texture.shape or not texture.is_floating_point():
        raise ImageError(
            f"a texture of shape {tuple(texture.shape)} and type {texture.dtype} was given; it takes (*batch, height, width, 3), "
            "colours in floating point, 1 leaving what is lit as it is."
        )


def _rgbd(
    out: tuple[Tensor, ...], batch: torch.Size, names: tuple[str, ...], camera: Camera, inverse: bool
) -> tuple[RGBD, Tensor]:  # fmt: skip
    if len(batch) == 1:
        color, depth, masks, links = out
    else:
        color, depth, masks, links = (x.reshape(*batch, *x.shape[1:]) for x in out)
    if inverse:
        depth = torch.where(depth > 0, 1 / depth.clamp_min(1e-6), 0.0)
    named = dict(zip(names, masks.unbind(-3), strict=True)) if names else {}
    return RGBD(color, depth, depth.detach() > 0, named, camera), links
