"""The kernels, once in float32 and once in float64, in one process.

A Warp struct cannot be generic over its number type, so the package `kernels` is loaded under a second name for
float64; kernels/types.py looks at that name. Compiled kernels lie in Warp's own cache.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType

import torch
import warp as wp

from samrl.core.errors import SamrlError

wp.config.log_level = max(wp.config.log_level, 30)  # warnings: Warp tells of each module that it loads
_lock = threading.Lock()
_suffix = {torch.float32: "", torch.float64: "64"}


def load(dtype: torch.dtype, part: str) -> ModuleType:
    """Module `part` of the kernels ("types", "rollout", "floating", "kinematics") for numbers of `dtype`."""
    if dtype not in _suffix:
        raise SamrlError(f"physics computes in float32 or float64; the state is {dtype}.")
    name = f"{__package__}.kernels{_suffix[dtype]}"
    with _lock:
        if name not in sys.modules:
            _load_package(name)
        return importlib.import_module(f"{name}.{part}")


def _load_package(name: str) -> None:
    """Load the folder `kernels` as the package `name`."""
    folder = Path(__file__).parent / "kernels"
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
