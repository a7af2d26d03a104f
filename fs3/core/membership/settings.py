"""The settings of a cluster: every key, what it may be, and how the keys belong together.

A key is `PART.NAME`. `cluster` and `mgmtd` are the manager's, `storage` and `meta` those of the services of that name, which get
them by heartbeat and apply them while they run. Settings are changed all at once or not at all: what comes out is checked as a
whole (`check_settings`). docs/settings.md is made from `SETTINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import msgspec

from fs3.base.limits import (
    cache_bytes_max,
    call_timeout_ns,
    chunk_bytes_default,
    chunk_bytes_max,
    chunk_bytes_min,
    client_presumed_dead_ns,
    clock_drift_ns,
    garbage_delay_ns,
    heartbeat_ns,
    inline_bytes_default,
    inline_bytes_max,
    last_seen_flush_ns,
    lease_ns,
    nodes_max,
    replicas_max,
    resync_fills_max,
    scrub_bytes_per_second_default,
    session_keepalive_ns,
    sessions_check_ns,
    settings_max,
    stripe_default,
    stripe_max,
    targets_per_node_max,
    throttle_bytes_per_second_max,
    throttle_bytes_per_second_min,
)
from fs3.base.units import GIB, MIB, MILLISECOND
from fs3.core.files.layout import CHUNK_SIZES, is_chunk_size
from fs3.core.membership.config import MgmtdConfig
from fs3.model.routing import Role
from fs3.model.settings import SettingValue

_DAY_MS = 24 * 3600 * 1000
_DAY_S = 24 * 3600

settings_kept_max = 64
"""Versions of the settings that are kept."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key."""

    key: str
    default: SettingValue
    low: SettingValue
    high: SettingValue
    """The least and the most it may be; of a switch, no limits."""
    text: str
    """What it does, for docs/settings.md."""
    online: bool = True
    """It may be changed while the cluster runs; else only `fs3 cluster init` sets it."""
    zero: bool = False
    """It may also be 0: `text` says what that means."""

    @property
    def part(self) -> str:
        """ "storage" of "storage.read_only"."""
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        """ "read_only" of "storage.read_only"."""
        return self.key.partition(".")[2]


def _switch(key: str, default: bool, text: str) -> Setting:
    return Setting(key, default, False, True, text)


_ALL = (
    # --- of the manager ---
    Setting("cluster.storage_nodes", 3, 1, nodes_max, "The default chain table is made when so many storage nodes are here."),
    Setting("cluster.replicas", 3, 1, replicas_max, "Copies of every chunk, in chain tables that are made from now on."),
    Setting("cluster.targets_per_node", 4, 1, targets_per_node_max, "Targets each new chain table gets on a node of mean size."),
    Setting(
        "mgmtd.lease_ms", lease_ns // MILLISECOND, 500, 600_000,
        "How long a node may serve after a heartbeat. A node that dies is replaced once it has run out.", online=False,
    ),
    Setting("mgmtd.heartbeat_ms", heartbeat_ns // MILLISECOND, 10, 200_000, "How often a node reports.", online=False),
    Setting(
        "mgmtd.drift_ms", clock_drift_ns // MILLISECOND, 0, 60_000,
        "What the clocks of two machines may disagree by in one lease.", online=False,
    ),
    _switch(
        "mgmtd.reconfigure", True,
        "Change chains when targets come and go. Off: chains stay as they are, to look at a cluster.",
    ),
    # --- of storage services ---
    _switch("storage.enforce_lease", True, "Refuse reads and writes once the lease may be over. Off: for experiments only."),
    Setting(
        "storage.stop_grace_ms", 5000, 0, 10 * call_timeout_ns // MILLISECOND,
        "How long a clean stop waits for the chains to go on without the node.",
    ),
    Setting(
        "storage.push_bytes_min", 1 * MIB, 0, chunk_bytes_max,
        "Updates of whole chunks with so many bytes are sent to the next target while this one still writes them; 0: none are.",
    ),
    _switch("storage.read_only", False, "Refuse updates from clients; what predecessors forward is still taken."),
    _switch("storage.short_circuit", True, "Tell clients of its host and user where blocks lie, for reads without asking."),
    Setting(
        "storage.resync_bytes_per_second", 0, throttle_bytes_per_second_min, throttle_bytes_per_second_max,
        "Chunk bytes one target sends in a second to bring its successor up to date; 0: as fast as that goes.", zero=True,
    ),
    Setting(
        "storage.resync_fills_max", resync_fills_max, 1, resync_fills_max,
        "Chunks one target sends at once to bring its successor up to date.",
    ),
    Setting(
        "storage.scrub_bytes_per_second", scrub_bytes_per_second_default,
        throttle_bytes_per_second_min, throttle_bytes_per_second_max,
        "Bytes each target reads back in a second to verify them; 0: only scrubs that are asked for.", zero=True,
    ),
    Setting(
        "storage.scrub_interval_s", 14 * _DAY_S, 0, 366 * _DAY_S,
        "From the beginning of one scrub of a target to the beginning of the next.",
    ),
    Setting("storage.cache_share_max", 0.8, 0.0, 1.0, "The part of a target that pages of KVCaches may take."),
    Setting("storage.cache_share_min", 0.0, 0.0, 1.0, "The part of a target that files leave to pages."),
    Setting(
        "storage.cache_file_room_bytes", 1 * GIB, 0, cache_bytes_max,
        "When less is free, pages are evicted so that files find room; 0: never.",
    ),
    Setting(
        "storage.cache_exchange_ms", 1000, 0, 3_600_000,
        "How often the replicas of a chain tell each other which pages were read; 0: never.",
    ),
    # --- of metadata services ---
    Setting(
        "meta.chunk_size", chunk_bytes_default, chunk_bytes_min, chunk_bytes_max,
        "Bytes per chunk of new files whose directory does not say; a power of two.",
    ),
    Setting("meta.stripe", stripe_default, 1, stripe_max, "Chains per new file where the directory does not say."),
    Setting(
        "meta.inline_bytes", inline_bytes_default, 0, inline_bytes_max,
        "Files up to this size are kept in the metadata store; 0: none are.",
    ),
    Setting(
        "meta.garbage_delay_ms", garbage_delay_ns // MILLISECOND, 40_000, 7 * _DAY_MS,
        "The chunks of a removed file stay for so long, in which clients that read it can say so.",
    ),
    Setting(
        "meta.session_silence_ms", client_presumed_dead_ns // MILLISECOND, 2 * session_keepalive_ns // MILLISECOND, _DAY_MS,
        "A client with open write sessions that is silent for so long is presumed dead.",
    ),
    Setting(
        "meta.sessions_interval_ms", sessions_check_ns // MILLISECOND, 1, _DAY_MS,
        "Pause between two looks for clients that are silent.",
    ),
    Setting(
        "meta.contacts_interval_ms", last_seen_flush_ns // MILLISECOND, 1, _DAY_MS,
        "Pause between two notes of which clients were heard of.",
    ),
    Setting("meta.space_age_ms", 1000, 0, 3_600_000, "Storage is asked for its free space at most so often."),
)  # fmt: skip

SETTINGS: dict[str, Setting] = {setting.key: setting for setting in _ALL}
"""Every setting, by its key."""

assert len(SETTINGS) == len(_ALL) < settings_max, "keys are unique and few"

PARTS: dict[str, Role] = {"storage": Role.STORAGE, "meta": Role.META}
"""Part of a key -> the role whose services get it."""

_IN_MGMTD_CONFIG = {
    "cluster.storage_nodes": ("storage_nodes", 1),
    "cluster.replicas": ("replicas", 1),
    "cluster.targets_per_node": ("targets_per_node", 1),
    "mgmtd.lease_ms": ("lease_ns", MILLISECOND),
    "mgmtd.heartbeat_ms": ("heartbeat_ns", MILLISECOND),
    "mgmtd.drift_ms": ("drift_ns", MILLISECOND),
    "mgmtd.reconfigure": ("reconfigure", 1),
}
"""Key -> the field of MgmtdConfig, and what one of the setting is there."""


def find_setting(key: str) -> Setting:
    """ValueError with the keys that look alike when there is none of this name."""
    found = SETTINGS.get(key)
    if found is None:
        alike = get_close_matches(key, SETTINGS, n=2, cutoff=0.8)
        hint = f"did you mean {' or '.join(alike)}?" if alike else "`fs3 config get` shows all"
        raise ValueError(f"there is no setting {key!r}; {hint}")
    return found


def check_value(key: str, value: SettingValue) -> SettingValue:
    """The value as the setting keeps it. ValueError naming the key for one of another kind, or out of range."""
    setting = find_setting(key)
    if isinstance(setting.default, bool) or isinstance(value, bool):
        if not (isinstance(setting.default, bool) and isinstance(value, bool)):
            wanted = "true or false" if isinstance(setting.default, bool) else "a number"
            raise ValueError(f"{key}: {describe(value)} is not {wanted}")
        return value
    if isinstance(setting.default, int) and not isinstance(value, int):
        raise ValueError(f"{key}: {describe(value)} is not a whole number")
    if not (setting.low <= value <= setting.high or (setting.zero and value == 0)):
        or_zero = ", or 0" if setting.zero else ""
        raise ValueError(f"{key}: {value} is not between {setting.low} and {setting.high}{or_zero}")
    return float(value) if isinstance(setting.default, float) else value


def describe(value: SettingValue) -> str:
    """As TOML and JSON both write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_settings(values: Mapping[str, SettingValue], base: MgmtdConfig | None = None) -> None:
    """ValueError naming a key that makes no sense, by itself or beside the others. `base`: what the manager was started with."""
    for key, value in values.items():
        check_value(key, value)
    everything = {key: setting.default for key, setting in SETTINGS.items()} | dict(values)
    config = manager_config(values, base or MgmtdConfig())
    for key, (field, unit) in _IN_MGMTD_CONFIG.items():
        everything[key] = getattr(config, field) if isinstance(getattr(config, field), bool) else getattr(config, field) // unit
    if 3 * everything["mgmtd.heartbeat_ms"] > everything["mgmtd.lease_ms"]:
        raise ValueError(
            f"mgmtd.heartbeat_ms: {everything['mgmtd.heartbeat_ms']} is too slow for mgmtd.lease_ms, "
            f"{everything['mgmtd.lease_ms']}: two heartbeats may be lost, so three must fit"
        )
    if everything["mgmtd.drift_ms"] >= everything["mgmtd.lease_ms"]:
        raise ValueError(
            f"mgmtd.drift_ms: {everything['mgmtd.drift_ms']} must be less than mgmtd.lease_ms, {everything['mgmtd.lease_ms']}"
        )
    chunk_size = everything["meta.chunk_size"]
    if not is_chunk_size(int(chunk_size)):
        raise ValueError(f"meta.chunk_size: {chunk_size} is not {CHUNK_SIZES}")
    for smaller, larger, times, why in _ORDER:
        if times * everything[smaller] > everything[larger]:
            more = "is more than" if times == 1 else f"times {times} is more than"
            raise ValueError(f"{smaller}: {everything[smaller]} {more} {larger}, {everything[larger]}: {why}")
    config.check()


_ORDER = (
    ("cluster.replicas", "cluster.storage_nodes", 1, "each replica of a chunk is on another storage node"),
    ("storage.cache_share_min", "storage.cache_share_max", 1, "what files leave to pages is part of what pages may take"),
    ("meta.sessions_interval_ms", "meta.session_silence_ms", 3, "a service that looks so seldom never knows who was silent"),
    ("meta.contacts_interval_ms", "meta.session_silence_ms", 3, "a client that was heard of must not be taken for silent"),
)
"""(key, key, how many of the first fit into the second at least, why)."""


def manager_config(values: Mapping[str, SettingValue], base: MgmtdConfig) -> MgmtdConfig:
    """What a manager goes by that was started with `base`; not checked."""
    changes = {field: values[key] * unit for key, (field, unit) in _IN_MGMTD_CONFIG.items() if key in values}
    changes |= {"reconfigure": bool(values["mgmtd.reconfigure"])} if "mgmtd.reconfigure" in values else {}
    return msgspec.structs.replace(base, **changes)


def started_with(base: MgmtdConfig) -> dict[str, SettingValue]:
    """What of the configuration a manager was started with is not the default of the setting."""
    found: dict[str, SettingValue] = {}
    for key, (field, unit) in _IN_MGMTD_CONFIG.items():
        value = getattr(base, field)
        value = value if isinstance(value, bool) else value // unit
        if value != SETTINGS[key].default:
            found[key] = value
    return found


def role_toml(values: Mapping[str, SettingValue], role: Role) -> str:
    """The configuration of the services of a role: what was set, as TOML."""
    lines = []
    for key, value in sorted(values.items()):
        setting = SETTINGS.get(key)
        if setting is not None and PARTS.get(setting.part) is role:
            lines.append(f"{setting.name} = {describe(value)}\n")
    return "".join(lines)


def describe_settings() -> str:
    """The table of docs/settings.md."""
    lines = ["| key | default | range | online | what it does |", "|---|---|---|---|---|"]
    for setting in SETTINGS.values():
        if isinstance(setting.default, bool):
            limits = "true or false"
        else:
            limits = f"{'0, ' if setting.zero else ''}{setting.low} to {setting.high}"
        online = "yes" if setting.online else "at init"
        lines.append(f"| `{setting.key}` | {describe(setting.default)} | {limits} | {online} | {setting.text} |")
    return "\n".join(lines)
