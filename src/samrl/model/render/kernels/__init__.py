"""The Warp side of the renderer: geometry, z-buffer and lists, edges traced, image, gradients."""
