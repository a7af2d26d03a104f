"""What is logged goes into the story of the run that it is of."""

from __future__ import annotations

import logging
import threading

from fs3.sim.ring2.loop import open_loop
from fs3.sim.ring2.story import Story, capture_logs

log = logging.getLogger("fs3.test")


def test_what_other_threads_log_is_not_of_the_story() -> None:
    lines: list[str] = []
    with open_loop(0) as loop:
        story = Story(loop, lines.append)
        with capture_logs(story):
            other = threading.Thread(target=lambda: log.error("of another program"))
            other.start()
            other.join()
            log.error("of the run")
    (line,) = lines
    assert line.endswith("error fs3.test: of the run")
    assert not story.failures
