"""`fs3.drivers.rdma.verbs` on pyverbs, the Python binding of rdma-core (Debian: python3-pyverbs). Imported when asked for."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib.util
import os
import resource
import sys
import weakref
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from fs3.base.units import KIB
from fs3.drivers.rdma.verbs import Registration, VerbsError
from fs3.model.rdma import INFINIBAND, PathEnd, RdmaAddress

system_packages = "/usr/lib/python3/dist-packages"
"""Where Debian has it; a virtual environment of the same Python does not look there."""

_TIMEOUT, _RETRIES = 13, 4
"""An answer is waited for 4.096 µs * 2^13 = 34 ms, or a few times as much by the device's own counting; then asked for again."""
_EVENT_LINK = "anon_inode:[infinibandevent]"


def load() -> PyverbsBinding:
    """The binding. Raises VerbsError saying what is missing."""
    try:
        spec = importlib.util.find_spec("pyverbs") or PathFinder.find_spec("pyverbs", [system_packages])
        if spec is None or spec.loader is None:
            raise VerbsError("there is no pyverbs: install python3-pyverbs and rdma-core")
        if "pyverbs" not in sys.modules:
            package = importlib.util.module_from_spec(spec)
            sys.modules["pyverbs"] = package
            spec.loader.exec_module(package)
        import pyverbs.device
        import pyverbs.fork
    except ImportError as problem:
        sys.modules.pop("pyverbs", None)
        raise VerbsError(f"pyverbs cannot be imported: {problem}") from None
    # Without it a fork would leave the pages that devices know with the child. Newer kernels copy them; then this does nothing.
    with contextlib.suppress(Exception):
        pyverbs.fork.fork_init()
    return PyverbsBinding()


class PyverbsBinding:
    """`fs3.drivers.rdma.verbs.Verbs`."""

    def __init__(self) -> None:
        self._contexts: dict[str, Any] = {}
        self._pairs: weakref.WeakSet[PyverbsQueuePair] = weakref.WeakSet()

    def queue_pair(self, address: RdmaAddress, depth: int) -> PyverbsQueuePair:
        """See `Verbs.queue_pair`."""
        import pyverbs.device

        try:
            context = self._contexts.get(address.device)
            if context is None:
                context = self._contexts[address.device] = pyverbs.device.Context(name=address.device)
            pair = PyverbsQueuePair(context, address, depth)
        except Exception as problem:
            raise VerbsError(f"{address.device} refuses a queue pair: {_reason(problem)}") from None
        self._pairs.add(pair)
        return pair

    def forget(self) -> None:
        """See `Verbs.forget`."""
        # What is destroyed in this process would be destroyed for the parent. So the descriptors lead nowhere from now on; closed
        # ones could lead to another file later.
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for context in self._contexts.values():
            with contextlib.suppress(OSError):
                os.dup2(nowhere, context.cmd_fd, inheritable=False)
        os.close(nowhere)
        for pair in self._pairs:
            pair.forget()
        for context in self._contexts.values():
            _keep_for_ever(context)
        self._contexts = {}


def _keep_for_ever(thing: Any) -> None:
    """It is never freed, at the interpreter's end neither: freeing it would say that it cannot be."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class PyverbsRegistration:
    """`fs3.drivers.rdma.verbs.Registration`."""

    def __init__(self, region: Any, address: int, key: int, known: set[PyverbsRegistration]) -> None:
        """`known`: where it is as long as it is open."""
        self._region = region
        self._known = known
        known.add(self)
        self.address = address
        self.key = key

    def close(self) -> None:
        """See `Registration.close`."""
        region, self._region = self._region, None
        if region is not None:
            self._known.discard(self)
            region.close()

    def forget(self) -> None:
        """See `Verbs.forget`."""
        _keep_for_ever(self._region)
        self._region = None


class PyverbsQueuePair:
    """`fs3.drivers.rdma.verbs.QueuePair`."""

    def __init__(self, context: Any, address: RdmaAddress, depth: int) -> None:
        """Raises what pyverbs does."""
        import pyverbs.cq as completion
        import pyverbs.pd as domain
        import pyverbs.qp as pairs
        from pyverbs import enums

        self._address = address
        port = context.query_port(address.port)
        limits = context.query_device()
        self.mtu = 128 << port.active_mtu
        self.reads_max = max(1, min(depth, limits.max_qp_rd_atom))
        self._registrations: set[PyverbsRegistration] = set()
        self._domain = domain.PD(context)
        before = _event_descriptors()
        self._channel = completion.CompChannel(context)
        fresh = _event_descriptors() - before
        self._fd = fresh.pop() if len(fresh) == 1 else -1
        self._queue = completion.CQ(context, 2 * depth, None, self._channel, 0)
        self._queue.req_notify()
        wanted = pairs.QPInitAttr(
            qp_type=enums.IBV_QPT_RC,
            scq=self._queue,
            rcq=self._queue,
            cap=pairs.QPCap(max_send_wr=depth, max_recv_wr=1, max_send_sge=1, max_recv_sge=1),
            sq_sig_all=1,
        )
        self._pair: Any = pairs.QP(self._domain, wanted)
        self.number: int = self._pair.qp_num

    def register(self, memory: memoryview, *, is_remote: bool) -> Registration:
        """See `QueuePair.register`."""
        from pyverbs import enums
        from pyverbs.mr import MR

        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        access = enums.IBV_ACCESS_REMOTE_READ if is_remote else enums.IBV_ACCESS_LOCAL_WRITE
        try:
            region = MR(self._domain, memory.nbytes, access, address=address)
        except Exception as problem:
            raise VerbsError(f"{self._address.device} refuses {memory.nbytes} bytes of memory: {_reason(problem)}") from None
        return PyverbsRegistration(region, address, region.rkey if is_remote else region.lkey, self._registrations)

    def connect(self, theirs: PathEnd, psn: int, mtu: int, reads_max: int) -> None:
        """See `QueuePair.connect`."""
        import pyverbs.addr as addresses
        import pyverbs.qp as pairs
        from pyverbs import enums

        mine = self._address
        try:
            route = addresses.GlobalRoute(dgid=addresses.GID(theirs.gid), sgid_index=mine.gid_index, hop_limit=64)
            is_global = 0 if mine.kind == INFINIBAND and theirs.lid else 1
            wanted = pairs.QPAttr(port_num=mine.port)
            wanted.ah_attr = addresses.AHAttr(port_num=mine.port, is_global=is_global, gr=route, dlid=theirs.lid)
            wanted.qp_access_flags = enums.IBV_ACCESS_REMOTE_READ
            wanted.path_mtu = mtu.bit_length() - 8
            wanted.dest_qp_num = theirs.qp_number
            wanted.rq_psn = theirs.psn
            wanted.sq_psn = psn
            wanted.max_rd_atomic = wanted.max_dest_rd_atomic = reads_max
            wanted.min_rnr_timer = 12
            wanted.timeout, wanted.retry_cnt, wanted.rnr_retry = _TIMEOUT, _RETRIES, 0
            self._pair.to_rts(wanted)
        except Exception as problem:
            raise VerbsError(f"{mine} cannot be connected to {theirs.gid}: {_reason(problem)}") from None

    def read(self, number: int, into: Registration, offset: int, length: int, address: int, key: int) -> None:
        """See `QueuePair.read`."""
        from pyverbs import enums
        from pyverbs.wr import SGE, SendWR

        try:
            place = SGE(into.address + offset, length, into.key)
            request = SendWR(wr_id=number, opcode=enums.IBV_WR_RDMA_READ, num_sge=1, sg=[place])
            request.set_wr_rdma(key, address)
            self._pair.post_send(request)
        except Exception as problem:
            raise VerbsError(f"{self._address.device} refuses a read: {_reason(problem)}") from None

    def poll(self) -> list[tuple[int, str]]:
        """See `QueuePair.poll`."""
        try:
            _, found = self._queue.poll(64)
        except Exception as problem:
            raise VerbsError(f"{self._address.device} cannot be polled: {_reason(problem)}") from None
        return [(one.wr_id, _status(one.status)) for one in found or ()]

    def fileno(self) -> int:
        """See `QueuePair.fileno`."""
        return self._fd

    def arm(self) -> None:
        """See `QueuePair.arm`."""
        try:
            while self._fd >= 0 and _is_readable(self._fd):
                self._channel.get_cq_event(self._queue)
                self._queue.ack_events(1)
            self._queue.req_notify()
        except Exception as problem:
            raise VerbsError(f"{self._address.device} tells no completions: {_reason(problem)}") from None

    def close(self) -> None:
        """See `QueuePair.close`."""
        pair, self._pair = self._pair, None
        if pair is not None:
            # In this order: nothing is read or written once the queue pair is gone. Regions of the domain close with it.
            for thing in (pair, self._queue, self._channel, self._domain):
                with contextlib.suppress(Exception):
                    thing.close()

    def forget(self) -> None:
        """See `Verbs.forget`."""
        if self._pair is not None:
            for thing in (self._pair, self._queue, self._channel, self._domain):
                _keep_for_ever(thing)
            self._pair = None
            for registration in self._registrations:
                registration.forget()
            self._registrations.clear()


def _reason(problem: Exception) -> str:
    code = getattr(problem, "error_code", None) or getattr(problem, "errno", None)
    if code == errno.ENOMEM or "Cannot allocate memory" in str(problem):
        soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        limit = "has no limit" if soft == resource.RLIM_INFINITY else f"is {soft // KIB} KiB"
        return (
            f"it can lock no more memory. The limit for this process (ulimit -l) {limit}; raise it: `ulimit -l unlimited`, or"
            " LimitMEMLOCK=infinity in the unit of the service"
        )
    return str(problem).splitlines()[0] if str(problem) else type(problem).__name__


def _status(status: int) -> str:
    """What became of a read; "" when it succeeded."""
    from pyverbs import enums

    if status == enums.IBV_WC_SUCCESS:
        return ""
    names = [name for name in dir(enums) if name.startswith("IBV_WC_") and name.endswith("_ERR")]
    found = [name for name in names if getattr(enums, name) == status]
    return found[0].removeprefix("IBV_WC_").removesuffix("_ERR").lower().replace("_", " ") if found else f"status {status}"


def _event_descriptors() -> set[int]:
    """Descriptors that tell events of RDMA devices. pyverbs does not say which one a completion channel has."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(entry) == _EVENT_LINK:
                found.add(int(entry.name))
    return found


def _is_readable(fd: int) -> bool:
    import select

    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
