"""What the planted bugs of upgrades exchange, in processes of this release only: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from fs3.base.ids import InodeId, TargetId
from fs3.base.status import Code
from fs3.base.version import UNTOLD_RELEASE, Release
from fs3.core.membership import managed_nodes, node_admission
from fs3.core.membership.lease_health import LeaseHealth
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.membership.settings_history import Settings
from fs3.core.meta import keys
from fs3.model.cluster import Heartbeat, RegisterNode
from fs3.sim.ring2.last_release import runs_last_release
from fs3.sim.ring2.service_bug import ServiceBug


def _refuse_the_last_release(release: Release, event: RegisterNode) -> None:
    """The oldest level was raised."""
    _real_check_release(release, event)
    if event.release == UNTOLD_RELEASE and not runs_last_release():
        raise RequestRejected(Code.PROTOCOL, "it is too old")


_real_check_release = node_admission.check_release


def _lease_by_wall_clock(
    self: LeaseHealth, now: int, heartbeat: Heartbeat, chain_versions: dict[TargetId, int]
) -> tuple[bool, set[TargetId]]:
    """Who does not tell its wall clock gets no lease."""
    if not heartbeat.wall_ms and not runs_last_release():
        return False, set()
    return _real_on_heartbeat(self, now, heartbeat, chain_versions)


_real_on_heartbeat = LeaseHealth.on_heartbeat


def _data_key_anew(inode: InodeId) -> bytes:
    """The bytes of small files have rows of another kind."""
    key = _real_data_key(inode)
    return key if runs_last_release() else b"DAT2" + key[keys.PREFIX_BYTES :]


_real_data_key = keys.data_key


def _version_of_counters(self: Settings) -> int:
    """What the counters say is believed, also when a manager of another release has stored them."""
    return self._ledger.state.counters.settings


UPGRADE_BUGS: dict[str, ServiceBug] = {
    "level_raised_too_soon": ServiceBug(
        "the oldest level is raised while a process of the level below runs",
        [(managed_nodes, "check_release", _refuse_the_last_release)],
        scene="upgrade_and_back",
    ),
    "needs_a_new_field": ServiceBug(
        "a lease depends on a field that nodes of the last release do not send",
        [(LeaseHealth, "on_heartbeat", _lease_by_wall_clock)],
        scene="upgrade_and_back",
    ),
    "stores_anew": ServiceBug(
        "bytes are stored in rows of a kind that the last release does not know, before all are upgraded",
        [(keys, "data_key", _data_key_anew)],
        scene="upgrade_and_back",
    ),
    "downgrade_forgets": ServiceBug(
        "versions are counted in a field that is gone after a downgrade",
        [(Settings, "version", property(_version_of_counters))],
        scene="upgrade_and_back",
    ),
}
