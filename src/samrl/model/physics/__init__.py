"""Articulated dynamics with contact, as Warp kernels behind torch."""

from samrl.model.physics.physics import Physics

__all__ = ["Physics"]
