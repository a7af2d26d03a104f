"""The process that answers the kernel for a mount. Its holder starts it, and another one should it die (`mount_holder`)."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress

from fs3.api.connect import LastingClient, connect
from fs3.api.fuse.ledger import MountLedger
from fs3.api.fuse.mount import Mount
from fs3.api.fuse.options import FuseOptions
from fs3.cli.mount_plan import MountPlan
from fs3.cli.output import describe
from fs3.cli.serve import loop_factory
from fs3.drivers.fuse.lasting_memory import LastingMemory
from fs3.drivers.fuse.protocol import InitFlag

log = logging.getLogger("fs3.mount")


class HolderLine:
    """The socket to the holder."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    async def take_device(self) -> int:
        """The descriptor of /dev/fuse. OSError ECONNRESET when the holder does not give it: then it knows why."""
        return await asyncio.to_thread(self._take)

    def _take(self) -> int:
        self._socket.send(b"device")
        _, fds, _, _ = socket.recv_fds(self._socket, 16, 1)
        if not fds:
            raise OSError(errno.ECONNRESET, "the holder gave no device")
        os.set_inheritable(fds[0], False)
        return fds[0]

    def say(self, message: bytes) -> None:
        """Tell it something, as long as it lives."""
        with suppress(OSError):
            self._socket.send(message)

    def watch(self) -> None:
        """Its end is said in the log: the mount goes on, but no other process would take over."""
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        loop.add_reader(self._socket, self._on_readable)

    def _on_readable(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        log.warning("the holder of the mount has died: when this process ends, so does the mount")


async def _run(plan: MountPlan, line: HolderLine, ledger: MountLedger) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    options = FuseOptions(plan.path, plan.direct_io, plan.cache_ns, plan.allow_other, plan.read_only, plan.noatime)
    lasting = LastingClient(ledger.client_id(), ledger.seqs())
    connecting = connect(plan.url, relatime=options.has_access_times, lasting=lasting, token_file=plan.token_file or None)
    async with await connecting as client:
        served = await Mount.take_over(client, plan.directory, options, ledger, line.take_device)
        log.info("%s is mounted on %s", plan.source, plan.directory)
        gc.freeze()  # what is there by now stays; it need not be looked at again and again
        line.say(b"serving %d" % bool(ledger.agreed.flags & InitFlag.HAS_RESEND))
        line.watch()
        ended = asyncio.ensure_future(served.wait_ended())
        stopped = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        log.info("%s is being unmounted", plan.directory)
        await served.close()
    log.info("%s is unmounted", plan.directory)


def main() -> None:
    """`python -m fs3.cli.mount_server DIR PLAN SOCKET MEMORY`, as the holder starts it. Status 0: the mount is gone."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    plan = MountPlan.parse(sys.argv[2])
    line = HolderLine(int(sys.argv[3]))
    try:
        ledger = MountLedger(LastingMemory(int(sys.argv[4])))
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(plan, line, ledger))
    except Exception as wrong:
        log.error("%s", wrong)
        line.say(b"!" + describe(wrong).encode()[:60_000])
        sys.exit(1)


if __name__ == "__main__":
    main()
