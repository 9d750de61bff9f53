"""Warp kernels launched again and again: what a launch needs is packed once, and later launches are only pointed at new tensors.
From Python, packing costs more than many of our kernels."""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)  # Warp tells of each module that it loads
wp.init()  # views of tensors need it, and may come before any launch

Job = tuple[Any, int, Sequence[Any]]  # a kernel over (batch, extent), the extent, its arguments after `first`
_loading: defaultdict[Any, threading.Lock] = defaultdict(threading.Lock)  # by module
_told = threading.Event()
_loaded: set[tuple[Any, str]] = set()
_most = 1_000  # threads, see limit_threads
_pools: dict[tuple[int, str], ThreadPoolExecutor] = {}  # by process: threads do not survive a fork


def load(kernel: Any, device: str) -> None:
    """Compile a kernel's module or take it from the cache, in one thread, while others may load other modules; says so, once a
    process, if that takes more than a second. Costs nothing from the second call on."""
    if (kernel, device) in _loaded:
        return
    target: Any = wp.get_device(device)
    with _loading[kernel.module]:
        say = threading.Timer(1.0, _tell)
        say.daemon = True
        say.start()
        try:
            kernel.module.load(target, 256 if target.is_cuda else 1)  # the block sizes that wp.launch takes: part of the hash
        finally:
            say.cancel()
    _loaded.add((kernel, device))


def load_ahead(kernels: Sequence[Any], device: str) -> None:
    """Begin to load what will be needed soon, two modules at a time (with more, or on one core, each takes longer than it
    gains); whoever needs one that is under way waits for it."""
    for kernel in kernels if len(os.sched_getaffinity(0)) > 1 else ():
        if (kernel, device) not in _loaded:
            _pool("load", 2).submit(load, kernel, device)


def _tell() -> None:
    if not _told.is_set():
        _told.set()
        print("compiling kernels for this machine, the first time only: half a minute in all.", file=sys.stderr, flush=True)


def limit_threads(most: int) -> None:
    """Let nothing that is made from now on in this process use more than `most` threads: where processes share the cores, two
    threads that wait for each other wait for other processes too."""
    global _most
    _most = max(1, most)


def threads(wanted: int | None = None) -> int:
    """As many threads as are wanted, or as there are cores, within the limit."""
    return min(wanted or os.cpu_count() or 1, _most)


def on_stream(device: torch.device) -> Any:
    """On a GPU, Warp works in torch's stream, so that neither runs ahead of the other."""
    return wp.ScopedStream(wp.stream_from_torch(device)) if device.type == "cuda" else nullcontext()


def array(tensor: Tensor, dtype: Any = None) -> Any:
    """A kernel's view of a tensor, which the caller must keep alive."""
    return wp.from_torch(tensor, dtype=dtype, requires_grad=False)


class Slot:
    """A kernel argument of fixed shape that is pointed at one tensor after another."""

    def __init__(self, shape: Sequence[int], dtype: Any, device: str) -> None:
        self.shape = torch.Size(shape)
        nothing = torch.empty(self.shape, device=device)
        self.array: Any = wp.from_torch(nothing, dtype=dtype, requires_grad=False, return_ctype=True)

    def bind(self, tensor: Tensor | None) -> None:
        """Point at `tensor`, contiguous and of this slot's shape, which the caller keeps alive; None: at nothing."""
        assert tensor is None or (tensor.shape == self.shape and tensor.is_contiguous())
        self.array.data = 0 if tensor is None else tensor.data_ptr()


class Launches:
    """Kernels to be launched one after the other over a batch, on the CPU by so many threads, each with its share of the batch.
    A kernel's first argument is the first index of its share, to which it adds its own. `one_by_one`: on the CPU all kernels
    are done with one index before the next one's turn comes: what an index needs then stays in the core's cache."""

    def __init__(self, jobs: Sequence[Job], batch: int, threads: int, device: str, *, one_by_one: bool = False) -> None:
        self.device = torch.device(device)
        cuda = self.device.type == "cuda"
        n = 1 if cuda else max(1, min(threads, batch, _most))
        bounds = [batch * i // n for i in range(n + 1)]

        def record(job: Job, first: int, count: int) -> Any:
            kernel, extent, args = job
            load(kernel, device)
            return wp.launch(kernel, dim=(count, extent), inputs=[first, *args], device=device, record_cmd=True)

        self._shares = []
        for a, b in zip(bounds[:-1], bounds[1:], strict=True):
            step = 1 if one_by_one and not cuda else b - a
            self._shares.append([record(job, i, step) for i in range(a, b, step) for job in jobs])

    def launch(self) -> None:
        first, *others = self._shares
        stream = wp.stream_from_torch(self.device) if self.device.type == "cuda" else None
        waiting = [workers().submit(_run, launches, stream) for launches in others]
        try:
            _run(first, stream)
        finally:
            for job in waiting:
                job.result()


def _run(launches: list[Any], stream: Any) -> None:
    for launch in launches:
        launch.launch(stream)


def workers() -> ThreadPoolExecutor:
    """Threads for work that runs without the interpreter lock: kernels, and solvers written in C."""
    return _pool("work", threads())


def _pool(name: str, size: int) -> ThreadPoolExecutor:
    key = os.getpid(), name
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(size, thread_name_prefix=name)
    return _pools[key]


def _leave() -> None:
    """At the end of the process: what was to be loaded ahead and has not begun is not wanted any more."""
    if (key := (os.getpid(), "load")) in _pools:
        _pools[key].shutdown(wait=False, cancel_futures=True)


threading._register_atexit(_leave)  # type: ignore[attr-defined]  # before the executors' own, which waits for all of it
