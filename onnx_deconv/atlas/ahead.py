"""Work on several tasks at once, and give their results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[Task], Result], tasks: Iterable[Task], depth: int
) -> Iterator[Result]:
    """Yield a function's result for each task in order, while the next tasks are worked on.

    Parameters
    ----------
    pool
        Who works.
    function
        What is done with each task.
    tasks
        Taken one by one, as there is room for them.
    depth
        Tasks, at most, that are waiting or under way.
    """
    under_way: deque[Future[Result]] = deque()
    for task in tasks:
        under_way.append(pool.submit(function, task))
        if len(under_way) >= depth:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
