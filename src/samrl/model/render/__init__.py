"""Differentiable rendering: antialiased rasterization with edge-integral gradients."""

from samrl.model.render.image import Settings
from samrl.model.render.loose import LooseSolid, loose_scene
from samrl.model.render.meshes import Mesh, scene_mesh, surface_mesh
from samrl.model.render.renderer import Renderer, SurfaceRenderer, rasterize

__all__ = [
    "LooseSolid",
    "Mesh",
    "Renderer",
    "Settings",
    "SurfaceRenderer",
    "loose_scene",
    "rasterize",
    "scene_mesh",
    "surface_mesh",
]
