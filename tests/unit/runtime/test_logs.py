"""Lines of the log: as JSON, with what they are about, and not too many of one message."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from fs3.runtime import logs
from fs3.runtime.logs import JsonFormatter, MessageLimit, TextFormatter, log_burst, log_window_ns

Logged = tuple[logging.Logger, io.StringIO, MessageLimit]


@pytest.fixture(params=[JsonFormatter("storage", "storage-2"), TextFormatter()], ids=["json", "text"])
def logged(request: pytest.FixtureRequest) -> Iterator[Logged]:
    out, limit = io.StringIO(), MessageLimit()
    handler = logging.StreamHandler(out)
    handler.setFormatter(request.param)
    handler.addFilter(limit)
    log = logging.Logger("fs3.test")
    log.addHandler(handler)
    yield log, out, limit
    handler.close()


def test_a_line_says_what_it_is_about(logged: Logged) -> None:
    log, out, _ = logged
    log.warning('target %d is "offline":\n%s', 7, "ü", extra={"target": 7, "chain": 3, "unrelated": 1})
    text = out.getvalue()
    if text.startswith("{"):
        line = json.loads(text)
        assert text.count("\n") == 1
        assert (line["level"], line["logger"], line["role"], line["node"]) == ("warning", "fs3.test", "storage", "storage-2")
        assert line["message"] == 'target 7 is "offline":\nü'
        assert (line["target"], line["chain"]) == (7, 3)
        assert "unrelated" not in line
        assert line["at"].endswith("+00:00")
    else:
        assert text.endswith("ü [chain 3, target 7]\n")


def test_an_exception_is_in_the_line(logged: Logged) -> None:
    log, out, _ = logged
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("it failed")
    text = out.getvalue()
    assert "ValueError: no" in (json.loads(text)["exception"] if text.startswith("{") else text)


def test_a_message_is_said_so_often_and_then_how_often_it_was_not(logged: Logged) -> None:
    log, out, limit = logged
    now = 0
    limit._now = lambda: now
    for number in range(log_burst + 5):
        log.warning("peer %d is odd", number)
    log.warning("something else")
    lines = out.getvalue().splitlines()
    assert len(lines) == log_burst + 1
    assert "something else" in lines[-1]
    now = log_window_ns
    log.warning("peer %d is odd", 1000)
    last = out.getvalue().splitlines()[-1]
    assert "peer 1000 is odd (5 similar lines left out)" in last
    if last.startswith("{"):
        assert json.loads(last)["left_out"] == 5


def test_messages_that_are_counted_are_bounded(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "log_messages_max", 10)
    log, _, limit = logged
    for number in range(100):
        log.warning(f"message {number}")  # noqa: G004 - each is another message
    assert len(limit._said) == 10
