"""Independent pieces of work by several processes. A piece depends on its own item alone, so neither the order nor the number of
workers changes what comes of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

from samrl.core.errors import SamrlError

T = TypeVar("T")
I = TypeVar("I")
R = TypeVar("R")
Make = Callable[[], AbstractContextManager[T]]


def fan_out(make: Make[T], work: Callable[[T, I], R], items: Sequence[I], workers: int = 1) -> Generator[R, None, None]:
    """work(tools, item) of every item, in the order they end; `make` brings each process its tools."""
    alone = items if workers <= 1 else items[:1]  # even then the first one alone: it compiles the kernels for all
    if not alone:
        return
    with make() as tools:
        for item in alone:
            yield work(tools, item)
    rest = items[len(alone) :]
    if rest:
        yield from _by_processes(make, work, rest, min(workers, len(rest)))


def _by_processes(make: Make[T], work: Callable[[T, I], R], items: Sequence[I], workers: int) -> Iterator[R]:
    share = (os.cpu_count() or 1) // workers  # of the cores
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(make, work, share))
    try:
        waiting: set[Future[R]] = {pool.submit(_work, item) for item in items}
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ended)
    except BrokenProcessPool as e:
        raise SamrlError(
            "a worker process died, likely for want of memory; what had been finished is kept. Give the same command again, "
            "with fewer --workers."
        ) from e
    finally:
        processes = list((pool._processes or {}).values())  # shutdown forgets them
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()  # a worker in the middle of a piece has nothing to save


_task: Any = None  # tools and work, one a worker process


def _begin(make: Make[T], work: Callable[[T, I], R], threads: int) -> None:
    global _task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    Thread(target=_follow_parent, daemon=True).start()
    from samrl.core.launches import limit_threads  # takes seconds to import, which a worker alone needs

    limit_threads(threads)
    _task = (make().__enter__(), work)


def _follow_parent() -> None:
    """A parent that is killed cannot end its workers; they end themselves."""
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _work(item: Any) -> Any:
    tools, work = _task
    return work(tools, item)
