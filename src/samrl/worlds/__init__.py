"""The real world's stand-ins: somebody else's simulators behind one protocol."""

from contextlib import suppress

from samrl.core.quiet import native_silence

with native_silence(), suppress(ImportError):  # it prints when it was built; without it there is still MuJoCo
    import pybullet as pybullet
