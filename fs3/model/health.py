"""What can be wrong with a cluster: one table, which `fs3 status`, events, metrics, alerts and the runbooks are made from."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

ENGINE_PROBLEM = "the engine of its store: "
"""How a problem of a node begins that is not the node's own: the process serves, and waiting mends nothing."""


class ClusterHealth(StrEnum):
    """Of a whole cluster, best first."""

    HEALTHY = "healthy"
    """Every replica of everything serves."""
    DEGRADED = "degraded"
    """Everything can be read and written, with fewer replicas, processes or less room than there should be."""
    DOWN = "down"
    """Something can not be read or written."""


class HealthKind(StrEnum):
    """The kinds of problems; each is the name of its page in docs/runbooks. The most urgent first."""

    UNREACHABLE = "unreachable"
    CHAIN_UNSERVED = "chain-unserved"
    LAST_SERVING_MISSING = "last-serving-missing"
    NO_METADATA = "no-metadata"
    NO_CHAINS = "no-chains"
    CHAIN_ONE_COPY = "chain-one-copy"
    NODE_DEAD = "node-dead"
    NODE_GONE = "node-gone"
    TARGET_BEHIND = "target-behind"
    TARGET_UNCONFIRMED = "target-unconfirmed"
    TARGET_NOTE = "target-note"
    BAD_BLOCKS = "bad-blocks"
    DISK_NEARLY_FULL = "disk-nearly-full"
    MANAGER_SILENT = "manager-silent"
    NODE_STORE = "node-store"
    ENGINE = "engine"
    CLOCKS_APART = "clocks-apart"
    CERTIFICATE_ENDS = "certificate-ends"
    SETTINGS_BEHIND = "settings-behind"
    VERSIONS_MIXED = "versions-mixed"
    PROCESS_GIVEN_UP = "process-given-up"
    ONE_COPY = "one-copy"
    UNSECURED = "unsecured"

    @property
    def page(self) -> str:
        """Where its page is, in the source tree."""
        return f"docs/runbooks/{self.value}.md"

    @property
    def row(self) -> HealthRow:
        """What holds of all problems of the kind."""
        return HEALTH_TABLE[self]


class HealthRow(NamedTuple):
    """One row of the table."""

    health: ClusterHealth
    """Of the cluster because of it. HEALTHY: it is a notice."""
    passes: bool
    """It may pass by itself, so that it makes sense to wait for that."""
    what: str
    """What it says, without the numbers."""

    @property
    def severity(self) -> str:
        """down, degraded or notice."""
        return "notice" if self.health is ClusterHealth.HEALTHY else self.health.value


_DOWN, _DEGRADED, _NOTICE = ClusterHealth.DOWN, ClusterHealth.DEGRADED, ClusterHealth.HEALTHY

HEALTH_TABLE: dict[HealthKind, HealthRow] = {
    HealthKind.UNREACHABLE: HealthRow(_DOWN, True, "no manager answers"),
    HealthKind.CHAIN_UNSERVED: HealthRow(_DOWN, True, "a chain serves nothing"),
    HealthKind.LAST_SERVING_MISSING: HealthRow(_DOWN, True, "the target with the newest data is away"),
    HealthKind.NO_METADATA: HealthRow(_DOWN, True, "no metadata process is alive"),
    HealthKind.NO_CHAINS: HealthRow(_DOWN, True, "there are no chains yet"),
    HealthKind.CHAIN_ONE_COPY: HealthRow(_DEGRADED, True, "one replica of a chain is left"),
    HealthKind.NODE_DEAD: HealthRow(_DEGRADED, True, "a node is dead"),
    HealthKind.NODE_GONE: HealthRow(_DEGRADED, True, "a node has been dead for an hour or longer"),
    HealthKind.TARGET_BEHIND: HealthRow(_DEGRADED, True, "a target is not up to date"),
    HealthKind.TARGET_UNCONFIRMED: HealthRow(_DEGRADED, True, "a target serves, and has not said that it is up to date"),
    HealthKind.TARGET_NOTE: HealthRow(_DEGRADED, False, "a target serves, and says something"),
    HealthKind.BAD_BLOCKS: HealthRow(_DEGRADED, True, "blocks without a good copy"),
    HealthKind.DISK_NEARLY_FULL: HealthRow(_DEGRADED, False, "a disk is nearly full"),
    HealthKind.MANAGER_SILENT: HealthRow(_DEGRADED, True, "a manager does not answer"),
    HealthKind.NODE_STORE: HealthRow(_DEGRADED, True, "a process has damaged rows"),
    HealthKind.ENGINE: HealthRow(_DEGRADED, False, "the engine of the metadata is not well"),
    HealthKind.CLOCKS_APART: HealthRow(_DEGRADED, False, "the clocks of two machines are apart"),
    HealthKind.CERTIFICATE_ENDS: HealthRow(_NOTICE, False, "the TLS certificate of a node ends soon"),
    HealthKind.SETTINGS_BEHIND: HealthRow(_DEGRADED, False, "a node could not apply the newest settings"),
    HealthKind.VERSIONS_MIXED: HealthRow(_DEGRADED, False, "processes of different versions"),
    HealthKind.PROCESS_GIVEN_UP: HealthRow(_DEGRADED, True, "a process is not started again"),
    HealthKind.ONE_COPY: HealthRow(_NOTICE, False, "chunks are kept in one copy"),
    HealthKind.UNSECURED: HealthRow(_NOTICE, False, "processes can be reached from other machines without authentication"),
}
"""What holds of each kind."""


SEEN_FROM_OUTSIDE = frozenset({HealthKind.UNREACHABLE, HealthKind.MANAGER_SILENT, HealthKind.PROCESS_GIVEN_UP})
"""What `fs3 status` sees by itself, and the primary manager does not."""


def health_table() -> str:
    """The table as one of Markdown, with links that hold in `docs`."""
    rows = [
        f"| [`{kind}`](runbooks/{kind}.md) | {row.severity} | {row.what} | {'yes' if row.passes else 'no'} |"
        for kind, row in HEALTH_TABLE.items()
    ]
    return "\n".join(["| code | severity | what it says | passes by itself |", "|---|---|---|---|", *rows])
