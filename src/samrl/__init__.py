"""samrl: a manipulation policy from an RGB-D camera, a robot and a differentiable twin of the scene."""

__version__ = "0.1.0"
