"""Which page of `docs/runbooks` says what to do about a problem that `fs3 status` names. One page per kind of problem."""

from __future__ import annotations

from enum import StrEnum


class Runbook(StrEnum):
    """The kinds of problems; each is the name of its page."""

    UNREACHABLE = "unreachable"
    MANAGER_SILENT = "manager-silent"
    NO_CHAINS = "no-chains"
    NO_METADATA = "no-metadata"
    CHAIN_UNSERVED = "chain-unserved"
    LAST_SERVING_MISSING = "last-serving-missing"
    NODE_DEAD = "node-dead"
    NODE_STORE = "node-store"
    ENGINE = "engine"
    TARGET_BEHIND = "target-behind"
    TARGET_UNCONFIRMED = "target-unconfirmed"
    TARGET_NOTE = "target-note"
    BAD_BLOCKS = "bad-blocks"
    DISK_NEARLY_FULL = "disk-nearly-full"
    SETTINGS_BEHIND = "settings-behind"
    VERSIONS_MIXED = "versions-mixed"
    PROCESS_GIVEN_UP = "process-given-up"

    @property
    def page(self) -> str:
        """Where its page is, in the source tree."""
        return f"docs/runbooks/{self.value}.md"
