"""What happened in a run, in words: for the one who replays a seed that failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fs3.base.errors import FS3Error
from fs3.base.units import SECOND
from fs3.core.meta.errors import MetaError
from fs3.sim.ring2.loop import SimLoop, current_process


class Story:
    """Lines with virtual time and who, told as they come; and what has failed."""

    def __init__(self, loop: SimLoop, tell: Callable[[str], None] | None = None) -> None:
        self.failures: list[str] = []
        self._loop = loop
        self._tell = tell

    @property
    def is_verbose(self) -> bool:
        """Somebody listens, so details are worth their cost."""
        return self._tell is not None

    def say(self, who: str, what: str) -> None:
        """One line."""
        if self._tell is not None:
            self._tell(f"{self._loop.now / SECOND:12.6f} {who:<10} {what}")

    def fail(self, checker: str, what: str) -> None:
        """Something that must not happen did."""
        self.say(checker, f"FAILED {what}")
        self.failures.append(f"{checker}: {what}")


@contextmanager
def capture_logs(story: Story) -> Iterator[None]:
    """What services log goes into the story, and nowhere else."""
    logger = logging.getLogger("fs3")
    handler, level, propagates = StoryLogHandler(story), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(handler.level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


class StoryLogHandler(logging.Handler):
    """Takes what services log into the story. A traceback of anything but an expected error is a failure of the run: code that
    catches everything and goes on would hide its mistakes here too. A run is one thread: what other threads of the same program
    log, which may have services of their own, is not of the story."""

    def __init__(self, story: Story) -> None:
        super().__init__(logging.INFO if story.is_verbose else logging.WARNING)
        self._story = story
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        if record.thread != self._thread:
            return
        process = current_process()
        who = process.name if process is not None else "sim"
        self._story.say(who, f"{record.levelname.lower()} {record.name}: {record.getMessage()}")
        problem = record.exc_info[1] if record.exc_info else None
        if problem is not None and not isinstance(problem, (FS3Error, MetaError)):
            last = problem.__traceback__
            while last is not None and last.tb_next is not None:
                last = last.tb_next
            where = f"{last.tb_frame.f_code.co_qualname}:{last.tb_lineno}" if last is not None else "?"
            self._story.fail("log", f"{who}: {record.getMessage()}: {type(problem).__name__}: {problem} in {where}")
