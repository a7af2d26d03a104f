"""Settings of a cluster: what is asked of the manager about them, and what it keeps.

The keys are in `fs3.core.membership.settings`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

SettingValue: TypeAlias = bool | int | float
"""What a setting may be."""


class SettingsVersion(msgspec.Struct, frozen=True, array_like=True):
    """The settings as they were from one change to the next. A row of the manager's store: new fields go at the end with a
    default."""

    version: int
    made_ms: int
    """Since 1970, for people."""
    author: str
    """Who asked for the change, for people."""
    values: dict[str, SettingValue]
    """Those that are not at their defaults."""


class SetSettings(msgspec.Struct, frozen=True):
    """Settings are changed, all that are named or none. Answered with the version."""

    changes: dict[str, SettingValue | None]
    """None: back to the default."""
    expected_version: int = 0
    """Only if the settings have this version; 0: always."""
    author: str = ""
    at_ms: int = 0
    """When it arrived: filled in by the manager that is asked."""


class SettingsHistory(msgspec.Struct, frozen=True):
    """What a manager knows of the settings."""

    versions: tuple[SettingsVersion, ...] = ()
    """What is kept, the oldest first; the last one is in force. Empty: nothing was ever set."""
    started_with: dict[str, SettingValue] = {}
    """What is in force where no setting says anything and the manager was started with something else than the default."""

    @property
    def values(self) -> dict[str, SettingValue]:
        """Those in force that are not at their defaults."""
        return {**self.started_with, **(self.versions[-1].values if self.versions else {})}
