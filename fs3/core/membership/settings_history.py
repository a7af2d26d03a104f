"""The settings of a cluster as the manager keeps them: changed all at once, with what they were before.

Each change is one version. The services of a role get a new configuration only when a change touches theirs. Intuition of what is
safe: leases that were granted under one length may run when the manager dies, and the next one must wait for their end; so what
leases are made of is set when the cluster is made, and stays.
"""

from __future__ import annotations

from fs3.base.status import Code
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.node_admission import RequestRejected
from fs3.core.membership.settings import (
    PARTS,
    SETTINGS,
    check_settings,
    check_value,
    find_setting,
    manager_config,
    role_toml,
    settings_kept_max,
    started_with,
)
from fs3.model.cluster import RoleConfig
from fs3.model.settings import SetSettings, SettingsHistory, SettingsVersion, SettingValue


class Settings:
    """Part of the manager's machine; what it changes is in the ledger. Requests that cannot be granted raise RequestRejected."""

    def __init__(self, ledger: Ledger, base: MgmtdConfig) -> None:
        """`base`: what the manager was started with, which settings go before."""
        self._ledger = ledger
        self._base = base

    @property
    def values(self) -> dict[str, SettingValue]:
        """Those that are set."""
        kept = self._ledger.state.settings
        return kept[max(kept)].values if kept else {}

    @property
    def version(self) -> int:
        """Of what is set. A manager of a release without settings may have been the primary, and have stored the counters without
        this one: no version is given twice all the same."""
        return max([self._ledger.state.counters.settings, *self._ledger.state.settings])

    @property
    def config(self) -> MgmtdConfig:
        """What the manager goes by."""
        return manager_config({key: value for key, value in self.values.items() if key in SETTINGS}, self._base)

    def history(self) -> SettingsHistory:
        """What is stored."""
        durable = self._ledger.durable_settings
        return SettingsHistory(tuple(durable[version] for version in sorted(durable)), started_with(self._base))

    def set(self, event: SetSettings) -> int:
        """Change settings; the version of what is there then."""
        current = self.version
        if event.expected_version not in (0, current):
            told = f"the settings have version {current}, not {event.expected_version}"
            raise RequestRejected(Code.STALE, told)
        before = self.values
        after = dict(before)
        try:
            for key, value in event.changes.items():
                find_setting(key)
                if value is None:
                    after.pop(key, None)
                else:
                    after[key] = check_value(key, value)
            self._check_fixed(event, before, after)
            # A key that another version of fs3 has set is kept, and is no reason to refuse this change.
            check_settings({key: value for key, value in after.items() if key in SETTINGS}, self._base)
        except ValueError as wrong:
            raise RequestRejected(Code.CONFIG, str(wrong)) from None
        if after == before:
            return current
        version = current + 1
        self._ledger.set_counters(settings=version)
        self._ledger.put_settings(SettingsVersion(version, event.at_ms, event.author, after))
        self._ledger.remove_old_settings(settings_kept_max)
        for role in PARTS.values():
            toml = role_toml(after, role)
            if toml != role_toml(before, role):
                number = self._ledger.state.counters.config + 1
                self._ledger.set_counters(config=number)
                self._ledger.put_config(RoleConfig(role, number, toml))
        return version

    def _check_fixed(self, event: SetSettings, before: dict[str, SettingValue], after: dict[str, SettingValue]) -> None:
        defaults = {key: setting.default for key, setting in SETTINGS.items()} | started_with(self._base)
        for key in event.changes:
            if not SETTINGS[key].online and after.get(key, defaults[key]) != before.get(key, defaults[key]):
                told = f"{key} is set when the cluster is made (`fs3 cluster init --set {key}=…`) and stays as it is"
                raise RequestRejected(Code.CONFIG, told)
