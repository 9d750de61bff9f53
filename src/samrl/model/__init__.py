"""𝓜: differentiable physics and rendering over one scene."""

import warp

from samrl.core.quiet import native_silence

with native_silence():  # without a driver for NVIDIA cards it warns, although the CPU is what was asked for
    warp.init()
