"""A user who is not root mounts by fusermount3: in a mount namespace of its own, with a /dev/fuse that every user may open."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fs3.cli.local import LocalCluster
from fs3.drivers.fuse.mount import HELPER
from fs3.sim.conformance.fuse import why_no_mount
from tests.process_mounts import DETACH_COPIES, fs3
from tests.space import SpaceGuard

USER = pwd.getpwnam("nobody").pw_uid
"""One that the user database knows: the helper asks it."""

NAMESPACE = """
set -eu
mount --make-rprivate /
mount -t tmpfs none /mnt
chmod 755 /mnt
mknod -m 666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
mkdir -p /mnt/user/point
chown -R {user}:{user} /mnt/user
exec setpriv --reuid {user} --regid {user} --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"
"""
"""The capability is for the files of this interpreter, which may be in a home that others do not enter. It mounts nothing."""

STEPS = """
set -eux
POINT=/mnt/user/point
trap 'cat "$POINT.log"' EXIT
fs3() { "$PYTHON" -m fs3.cli.main "$@"; }
fs3 mount "$URL" "$POINT" --log "$POINT.log"
grep " $POINT fuse.fs3 " /proc/mounts | grep "user_id=$(id -u)"
if fs3 mount "$URL" "$POINT"; then exit 1; fi
mkdir "$POINT/d"
echo one > "$POINT/d/f"
test "$(stat -c %u "$POINT/d/f")" = "$(id -u)"
exec 7< "$POINT/d/f"
server=$(pgrep -f "fs3.cli.mount_server $POINT ")
kill -9 "$server"
test "$(cat "$POINT/d/f")" = one
test "$(cat <&7)" = one
test "$(pgrep -f "fs3.cli.mount_server $POINT ")" != "$server"
if fs3 umount "$POINT"; then exit 1; fi
exec 7<&-
rm -r "$POINT/d"
fs3 umount "$POINT"
if grep " $POINT " /proc/mounts; then exit 1; fi
while pgrep -f "fs3.cli.mount_holder $POINT "; do sleep 0.05; done
"""


def _why_not() -> str:
    if os.geteuid():
        return "only root makes a device for a test"
    missing = [name for name in (HELPER, "unshare", "setpriv", "mknod", "pgrep") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed"
    return why_no_mount()


pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(120),
    pytest.mark.skipif(bool(_why_not()), reason=f"no other user can mount here: {_why_not()}"),
]


def _in_namespace(*command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command of the user."""
    script = DETACH_COPIES + NAMESPACE.format(user=USER)
    whole = ["unshare", "--mount", "bash", "-c", script, "namespace", *command]
    return subprocess.run(whole, capture_output=True, text=True, timeout=100, env={**os.environ, **settings})


def test_a_user_mounts_uses_and_unmounts(space_guard: SpaceGuard) -> None:
    with space_guard.lend("mounts") as home, LocalCluster(home / "cluster", targets=1) as cluster:
        probe = _in_namespace(sys.executable, "-c", "import os; os.open('/dev/fuse', os.O_RDWR)")
        if probe.returncode:
            pytest.skip(f"no device for another user can be made here: {probe.stderr.strip()}")
        done = _in_namespace("bash", "-c", STEPS, PYTHON=sys.executable, URL=_in_cluster(cluster, home))
        assert done.returncode == 0, (done.stdout, done.stderr)


def _in_cluster(cluster: LocalCluster, home: Path) -> str:
    """The URL of a directory that is the user's."""
    place = home / "root"
    place.mkdir()
    assert fs3("mount", cluster.url, str(place)).returncode == 0
    (place / "theirs").mkdir()
    os.chown(place / "theirs", USER, USER)
    assert fs3("umount", str(place)).returncode == 0
    return f"{cluster.url}/theirs"
