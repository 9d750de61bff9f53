"""Differentiable rendering: antialiased rasterization with edge-integral gradients."""

from samrl.model.render.autograd import Settings
from samrl.model.render.meshes import Mesh, scene_mesh, surface_mesh
from samrl.model.render.renderer import Renderer, rasterize

__all__ = ["Mesh", "Renderer", "Settings", "rasterize", "scene_mesh", "surface_mesh"]
