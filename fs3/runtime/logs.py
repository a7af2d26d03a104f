"""The log of a service process: lines for people or JSON for programs, and no message so often that it fills a disk."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import OrderedDict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO

from fs3.base.units import MINUTE

log_burst = 20
"""Lines of one message within `log_window_ns`; further ones are left out, and the next line that is not tells how many."""
log_window_ns = 1 * MINUTE
log_messages_max = 1024
"""Messages whose lines are counted; then the one that was said longest ago is forgotten."""

CONTEXT_FIELDS = ("verb", "request_id", "peer", "chain", "target", "chunk")
"""What a line may be about, besides its text: given as `extra` of the call that logs."""


class LogFormat(StrEnum):
    """How lines look."""

    text = "text"
    json = "json"


class MessageLimit(logging.Filter):
    """Lets so many lines of each message through. A message is its text without what is filled in, of one logger."""

    def __init__(self) -> None:
        super().__init__()
        self._now = time.monotonic_ns
        self._said: OrderedDict[tuple[str, str], list[int]] = OrderedDict()
        """Message -> [when its window began, lines in it, lines left out]."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False: the line is left out."""
        key = (record.name, str(record.msg))
        now = self._now()
        counts = self._said.get(key)
        if counts is None:
            counts = self._said[key] = [now, 0, 0]
            if len(self._said) > log_messages_max:
                self._said.popitem(last=False)
        self._said.move_to_end(key)
        if now - counts[0] >= log_window_ns:
            left_out = counts[2]
            counts[:] = [now, 0, 0]
            if left_out:
                record.left_out = left_out
                record.msg = f"{record.msg} ({left_out} similar lines left out)"
        counts[1] += 1
        if counts[1] > log_burst:
            counts[2] += 1
            return False
        return True


class JsonFormatter(logging.Formatter):
    """One object per line."""

    def __init__(self, role: str, node: str) -> None:
        """`role`, `node`: of the process, in every line."""
        super().__init__()
        self._process = {"role": role, "node": node}

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "logger": record.name, **self._process}
        line["message"] = record.getMessage()
        for name in (*CONTEXT_FIELDS, "left_out"):
            value = getattr(record, name, None)
            if value is not None:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """One line for people, with what it is about in brackets."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """As `Formatter.formatMessage`."""
        about = [f"{name} {value}" for name in CONTEXT_FIELDS if (value := getattr(record, name, None)) is not None]
        return super().formatMessage(record) + (f" [{', '.join(about)}]" if about else "")


def set_up_logging(log_format: LogFormat, role: str, node: str, stream: TextIO = sys.stderr) -> None:
    """Log to a stream from INFO on; of every process once, when it starts."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(role, node) if log_format is LogFormat.json else TextFormatter())
    handler.addFilter(MessageLimit())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
