"""What a mount and its kernel agree on."""

import errno

import pytest

from fs3.drivers.fuse import protocol
from fs3.drivers.fuse.negotiation import negotiate
from fs3.drivers.fuse.protocol import InitFlag
from fs3.drivers.fuse.records import InitOptions

EVERYTHING = (1 << 64) - 1


def hello(major: int = 7, minor: int = 44, flags: int = EVERYTHING) -> memoryview:
    low, high = flags & 0xFFFF_FFFF, flags >> 32
    return memoryview(protocol.INIT_IN.pack(major, minor, 1 << 22, low) + protocol.INIT_IN_FLAGS2.pack(high) + bytes(44))


def test_what_a_new_kernel_is_answered() -> None:
    agreed, answer = negotiate(hello(), InitOptions())
    fields = protocol.INIT_OUT.unpack(answer)
    assert fields[:3] == (7, protocol.MINOR, 1 << 20)
    assert fields[6] == 1 << 20
    assert fields[8] == 256
    assert fields[3] | fields[10] << 32 == agreed.flags
    assert agreed.max_write_bytes == 1 << 20
    assert agreed.flags & InitFlag.DIRECT_IO_ALLOW_MMAP
    assert agreed.flags & InitFlag.EXPLICIT_INVAL_DATA
    assert not agreed.flags & (InitFlag.WRITEBACK_CACHE | InitFlag.AUTO_INVAL_DATA | InitFlag.POSIX_LOCKS)


def test_what_a_file_system_asks_for_itself() -> None:
    agreed, _ = negotiate(hello(), InitOptions(flags=InitFlag.POSIX_LOCKS))
    assert agreed.flags & InitFlag.POSIX_LOCKS
    agreed, _ = negotiate(hello(flags=int(InitFlag.BIG_WRITES)), InitOptions(flags=InitFlag.POSIX_LOCKS))
    assert agreed.flags == InitFlag.BIG_WRITES


def test_a_kernel_without_large_requests_gets_small_ones() -> None:
    agreed, answer = negotiate(hello(flags=int(InitFlag.BIG_WRITES)), InitOptions())
    assert agreed.max_write_bytes == protocol.INIT_OUT.unpack(answer)[6] == 128 * 1024


def test_other_versions() -> None:
    agreed, answer = negotiate(hello(major=8), InitOptions())
    assert agreed.major == 0
    assert protocol.INIT_OUT.unpack(answer)[:2] == (7, protocol.MINOR)
    for major, minor in ((7, 30), (6, 99)):
        with pytest.raises(OSError, match="is needed") as caught:
            negotiate(hello(major, minor), InitOptions())
        assert caught.value.errno == errno.EPROTO
    with pytest.raises(OSError, match="malformed"):
        negotiate(memoryview(b"\0" * 15), InitOptions())
