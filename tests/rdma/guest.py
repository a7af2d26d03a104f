"""Runs a command where there are an RDMA device and dma-bufs: in a small virtual machine, whose kernel has Soft-RoCE (rdma_rxe)
and a graphics device in memory (vgem).

    python -m tests.rdma.guest [--seconds N] [--kernel linux-image-….deb] [--record | -- COMMAND …]

The machine boots Debian's generic kernel from memory and has this machine's root as its own, read-only, so whatever Python and
packages are here are there too: rdma-core, python3-pyverbs and iproute2 must be installed here. It emulates its processor (TCG),
which proves that something works and never how fast. The kernel is fetched once with apt-get, as a package that is not installed,
and kept in `~/.cache/fs3-guest`.

With --record, what became of each test is written to `guest-log.txt` beside this file, with the commit and the versions, if all
passed.

Exits with the status of the command; 3 when something is missing here that the machine takes, after a line that says what.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NoReturn

from tests.rdma import guest_log

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "fs3-guest"
MISSING = 3
SECONDS_MAX = 600
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "veth", "crc32_generic", "ib_uverbs", "rdma_rxe", "vgem")
_DEFAULT = (
    sys.executable, "-m", "pytest", "tests/rdma/test_cluster.py", "tests/rdma/test_protection.py", "tests/rdma/test_device.py",
    "tests/unit/api/io/test_dma_buf.py", "tests/integration/test_dma_bufs.py", "-k", "device or Device or real", "-vv", "-rs",
    "--noconftest", "-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", "--timeout", "540", "--color", "no",
)  # fmt: skip
"""The cluster, the suite of transports, and dma-bufs; without what else the tests of this project load."""
_VERDICT = re.compile(r"^fs3-guest: the command ended with status (\d+)", re.MULTILINE)

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /modules/$module || echo "fs3-guest: $module cannot be loaded"; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /root || echo "fs3-guest: no root"
for at in proc sys dev; do /bin/busybox mount -o move /$at /root/$at; done
/bin/busybox mount -t tmpfs -o size=2g tmpfs /root/run
/bin/busybox mkdir -p /root/dev/shm /root/run/scratch
/bin/busybox mount -t tmpfs tmpfs /root/dev/shm
exec /bin/busybox chroot /root /bin/sh -c '
ip link set lo up
ip link add fs3a address 02:00:00:00:00:01 type veth peer name fs3b
ip addr add 10.77.0.1/24 dev fs3a
ip link set fs3a up; ip link set fs3b up
rdma link add rxe0 type rxe netdev fs3a
export HOME=/run/scratch TMPDIR=/run/scratch PYTHONDONTWRITEBYTECODE=1 PATH={path} PYTHONPATH={directory} LC_ALL=C.UTF-8
export FS3_GUEST=1
ulimit -l unlimited
cd {directory}
echo "fs3-guest: kernel $(uname -r), $(rdma link show)"
{command}
echo "fs3-guest: the command ended with status $?"
echo o > /proc/sysrq-trigger
while true; do :; done'
"""


class Missing(Exception):
    """Something is not installed here."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=SECONDS_MAX, help="it is ended when it has said nothing for so long")
    parser.add_argument("--kernel", type=Path, help="package of a kernel to take instead of the one apt-get fetches")
    parser.add_argument("--skip", action="store_true", help="exit with 0 when something is missing here")
    parser.add_argument("--record", action="store_true", help=f"write {guest_log.LOG.name} if all tests pass")
    parser.add_argument("command", nargs="*", help="what to run instead of the tests")
    options = parser.parse_args()
    if options.record and options.command:
        parser.error("--record is of the tests: it takes no command")
    signal.signal(signal.SIGTERM, _end)
    try:
        return run(options.command or list(_DEFAULT), options.seconds, options.kernel, is_recorded=options.record)
    except Missing as what:
        say(f"not run: {what}")
        return 0 if options.skip else MISSING


def _end(number: int, frame: object) -> NoReturn:
    """So that the machine of a run that is ended from outside ends, too."""
    raise SystemExit(128 + number)


def say(text: str) -> None:
    """Tell what becomes of the machine."""
    sys.stdout.write(f"fs3-guest: {text}\n")
    sys.stdout.flush()


def run(command: list[str], seconds: int, kernel: Path | None, *, is_recorded: bool = False) -> int:
    """The command's exit status. Raises Missing."""
    emulator = shutil.which("qemu-system-x86_64")
    busybox = shutil.which("busybox")
    for tool, found in (("qemu-system-x86", emulator), ("busybox", busybox), ("kmod", _depmod()), ("iproute2", _rdma())):
        if found is None:
            raise Missing(f"{tool} is not installed")
    if not Path("/usr/lib/python3/dist-packages/pyverbs").is_dir():
        raise Missing("python3-pyverbs is not installed")
    assert emulator is not None
    assert busybox is not None
    package = kernel or fetch_kernel()
    tree = unpack_kernel(package)
    began = datetime.now(tz=UTC)
    with tempfile.TemporaryDirectory(prefix="fs3-guest-") as scratch:
        initrd = Path(scratch) / "initrd"
        initrd.write_bytes(gzip.compress(initramfs(tree, Path(busybox), command), 1))
        (image,) = (tree / "boot").glob("vmlinuz-*")
        machine = subprocess.Popen(
            [
                emulator, "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-m", "3072", "-nographic", "-no-reboot",
                "-nic", "none", "-kernel", str(image), "-initrd", str(initrd),
                "-append", "console=ttyS0 quiet loglevel=3 panic=-1",
                "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert machine.stdout is not None
        try:
            output = _show_output(machine.stdout, seconds)
        finally:
            machine.kill()
            machine.wait()
    found = _VERDICT.search(output)
    status = int(found[1]) if found else 1
    if is_recorded:
        try:
            if status:
                raise ValueError(f"the tests ended with status {status}")
            say(f"recorded in {guest_log.record(output, emulator, package, began)}")
        except ValueError as why:
            say(f"not recorded: {why}")
            status = status or 1
    return status


def _show_output(pipe: IO[bytes], seconds: int) -> str:
    """Show what arrives, until its end, or until nothing has for so long: all of it. How long everything takes depends on what
    else this machine does."""
    shown = bytearray()
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    while poller.poll(seconds * 1000):
        arrived = os.read(pipe.fileno(), 1 << 16)
        if not arrived:
            break
        shown += arrived
        sys.stdout.write(arrived.decode(errors="replace"))
        sys.stdout.flush()
    else:
        say(f"ended: it has said nothing for {seconds} s")
    return shown.decode(errors="replace")


def _depmod() -> str | None:
    return shutil.which("depmod") or shutil.which("depmod", path="/sbin:/usr/sbin")


def _rdma() -> str | None:
    return shutil.which("rdma") or shutil.which("rdma", path="/sbin:/usr/sbin")


def fetch_kernel() -> Path:
    """The package of Debian's generic kernel. Raises Missing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    found = sorted(CACHE.glob("linux-image-*.deb"))
    if found:
        return found[-1]
    try:
        depends = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=True).stdout
        name = next(word for word in depends.split() if word.startswith("linux-image-") and word != "linux-image-amd64")
        subprocess.run(["apt-get", "download", name], cwd=CACHE, check=True, capture_output=True)
        return next(CACHE.glob("linux-image-*.deb"))
    except (OSError, subprocess.CalledProcessError, StopIteration) as problem:
        raise Missing(f"apt-get cannot fetch linux-image-amd64: {problem}") from None


def unpack_kernel(package: Path) -> Path:
    """Where the kernel and its modules are, with their dependencies listed."""
    tree = CACHE / package.stem
    if not (tree / "unpacked").exists():
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        subprocess.run(["dpkg", "-x", str(package), str(tree)], check=True)
        depmod = _depmod()
        assert depmod is not None
        subprocess.run([depmod, "-b", str(tree), _release(tree)], check=True, capture_output=True)
        (tree / "unpacked").touch()
    return tree


def _release(tree: Path) -> str:
    return next((tree / "lib" / "modules").iterdir()).name


def modules_of(tree: Path) -> list[Path]:
    """The modules that the machine takes, each after those it depends on."""
    base = tree / "lib" / "modules" / _release(tree)
    needs: dict[str, list[str]] = {}
    for line in (base / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in needs}
    ordered: list[str] = []
    for name in _MODULES:
        path = by_name.get(name)
        if path is None:
            continue  # built in
        for one in [*reversed(needs[path]), path]:
            if one not in ordered:
                ordered.append(one)
    return [base / path for path in ordered]


def initramfs(tree: Path, busybox: Path, command: list[str]) -> bytes:
    """A cpio archive: busybox, the modules, and what runs first."""
    modules = modules_of(tree)
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    quoted = shlex.join(command).replace("'", "'\"'\"'")
    init = _INIT.format(modules=" ".join(module.name for module in modules), path=path, directory=ROOT, command=quoted)
    files = {"init": init.encode(), "bin/busybox": busybox.read_bytes()}
    files |= {f"modules/{module.name}": module.read_bytes() for module in modules}
    entries = [(name, 0o040755, b"") for name in ("bin", "modules")]
    entries += [(name, 0o100755, data) for name, data in files.items()]
    archive = b"".join(_cpio(number, *entry) for number, entry in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1))
    return archive + bytes(-len(archive) % 512)


def _cpio(number: int, name: str, mode: int, data: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    head += bytes(-len(head) % 4)
    return head + data + bytes(-len(data) % 4)


if __name__ == "__main__":
    sys.exit(main())
