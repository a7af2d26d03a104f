"""What the `fs3` program begins with: an interrupt while it is still being loaded ends it as it ends any other program."""

from __future__ import annotations

import signal


def main() -> None:
    """Entry point of `fs3`: `fs3.cli.main.main`, which is imported here and not before."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fs3.cli import main as command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    command.main()
