"""Runs of models: requests that wait for the same model run together.

No request waits for company: whatever has come while a run was going on is the next one. So batches grow
by themselves as a server gets busy, and a request that comes alone is not delayed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from onnx_deconv.model import Array

Feeds = Mapping[str, Array]
Results = dict[str, Array]
Observer = Callable[[int], None]
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Job:
    """One request's share of a run.

    Attributes
    ----------
    run
        What runs the model.
    feeds
        One array by input; the first axis is that of the images.
    images
        How many there are.
    """

    run: Callable[[Feeds], Results]
    feeds: Feeds
    images: int


@dataclass(frozen=True)
class Alike:
    """What jobs that run together have in common.

    Attributes
    ----------
    key
        Jobs of the same key may run together; ``None`` where a job runs alone.
    size
        How many images the model takes, if that number is fixed.
    """

    key: Hashable | None
    size: int | None = None


@dataclass(eq=False)
class _Waiting:
    job: Job
    alike: Alike
    done: asyncio.Future[Results]


@dataclass(eq=False)
class Runs:
    """Runs jobs in threads of their own, in the order in which they came.

    Parameters
    ----------
    most
        How many images run at once, at most.
    at_once
        How many runs go on at once.
    observe
        Called with the number of images of each run.
    """

    most: int
    at_once: int = 1
    observe: Observer = lambda images: None  # noqa: ARG005 - what an observer looks like
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _running: int = 0

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.at_once, "run")
        self._photographs = ThreadPoolExecutor(self.at_once, "photograph")

    async def submit(self, job: Job, alike: Alike) -> Results:
        """Wait for a job's results; a caller that gives up takes its job out of the queue."""
        one = _Waiting(job, alike, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._start()
        try:
            return await one.done
        finally:
            if one in self._waiting:
                self._waiting.remove(one)

    async def photograph(self, work: Callable[..., _Found], *given: Any) -> _Found:
        """Work on photographs in a thread, as few at once as runs: a large one takes a gigabyte to draw."""
        return await asyncio.get_running_loop().run_in_executor(self._photographs, work, *given)

    def close(self) -> None:
        """Wait for the runs that go on, and end the threads."""
        self._threads.shutdown()
        self._photographs.shutdown()

    def _start(self) -> None:
        """Start what can be started."""
        while self._waiting and self._running < self.at_once:
            group = self._next()
            self._running += 1
            done = asyncio.get_running_loop().run_in_executor(self._threads, self._run, group)
            done.add_done_callback(partial(self._finish, group))

    def _next(self) -> list[_Waiting]:
        """Take the first job out of the queue, and those that can run with it."""
        first = self._waiting.popleft()
        group, images, most = [first], first.job.images, first.alike.size or self.most
        for other in list(self._waiting):
            fits = images + other.job.images <= most
            if fits and first.alike.key is not None and other.alike == first.alike:
                self._waiting.remove(other)
                group.append(other)
                images += other.job.images
        return group

    def _run(self, group: Sequence[_Waiting]) -> list[Results | Exception]:
        """Run jobs together; where that fails, each alone: one image may be at fault, such as one of NaN."""
        try:
            return list(self._together(group))
        except Exception as error:  # noqa: BLE001 - each caller gets its own
            return [error] if len(group) == 1 else [self._run([one])[0] for one in group]

    def _together(self, group: Sequence[_Waiting]) -> list[Results]:
        alike, jobs = group[0].alike, [one.job for one in group]
        if alike.key is None:
            self.observe(jobs[0].images)
            return [jobs[0].run(jobs[0].feeds)]
        feeds = {name: np.concatenate([job.feeds[name] for job in jobs]) for name in jobs[0].feeds}
        images = sum(job.images for job in jobs)
        parts = [self._part(jobs[0], each) for each in cut(feeds, images, alike.size or self.most, alike)]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        edges = np.cumsum([0, *(job.images for job in jobs)])
        return [{n: a[i:j] for n, a in whole.items()} for i, j in pairwise(edges)]

    def _part(self, job: Job, feeds: Feeds) -> Results:
        self.observe(len(next(iter(feeds.values()))))
        return job.run(feeds)

    def _finish(self, group: Sequence[_Waiting], done: asyncio.Future[list[Results | Exception]]) -> None:
        self._running -= 1
        for one, found in zip(group, done.result(), strict=True):
            if one.done.done():  # its caller gave up
                continue
            if isinstance(found, Exception):
                one.done.set_exception(found)
            else:
                one.done.set_result(found)
        self._start()


def cut(feeds: Feeds, images: int, step: int, alike: Alike) -> Iterator[Feeds]:
    """Cut images into what runs at once; the last part is filled up where the model's number is fixed."""
    for first in range(0, images, step):
        part = {name: array[first : first + step] for name, array in feeds.items()}
        missing = step - min(step, images - first) if alike.size is not None else 0
        yield {n: np.concatenate([a, *[a[-1:]] * missing]) if missing else a for n, a in part.items()}
