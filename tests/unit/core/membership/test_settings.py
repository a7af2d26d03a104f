"""The settings of a cluster: what they may be, together; changed all or none; kept, delivered, and what of that is seen."""

from __future__ import annotations

import re

import msgspec
import pytest

from fs3.base.limits import settings_max
from fs3.base.status import Code
from fs3.base.units import SECOND
from fs3.core.membership.config import MgmtdConfig
from fs3.core.membership.events import ManagerRequest, Rejection
from fs3.core.membership.settings import (
    PARTS,
    SETTINGS,
    check_settings,
    check_value,
    find_setting,
    manager_config,
    role_toml,
    settings_kept_max,
)
from fs3.model.routing import Role
from fs3.model.settings import SetSettings, SettingValue
from fs3.runtime.config import parse_config
from fs3.services.meta.config import MetaConfig
from fs3.services.storage.config import StorageConfig
from tests.unit.core.membership.test_manager import OFFLINE, SERVING, Cluster


def change(cluster: Cluster, expected: int = 0, **changes: SettingValue | None) -> object:
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return cluster.ask(ManagerRequest(cluster.next_token(), SetSettings(named, expected, "me", 1000)))


def refused(answer: object, code: Code, words: str) -> None:
    assert isinstance(answer, Rejection), answer
    assert answer.code is code
    assert words in answer.message


# --- the table ---------------------------------------------------------------------------------------------------------


def test_there_are_few_settings_and_each_has_a_text() -> None:
    assert len(SETTINGS) < settings_max == 60
    for setting in SETTINGS.values():
        assert setting.part in ("cluster", "mgmtd", *PARTS)
        assert setting.text.endswith(".")
        assert check_value(setting.key, setting.default) == setting.default


@pytest.mark.parametrize(("part", "config"), [("storage", StorageConfig()), ("meta", MetaConfig())])
def test_the_defaults_are_those_of_the_services(part: str, config: msgspec.Struct) -> None:
    for setting in SETTINGS.values():
        if setting.part == part:
            assert getattr(config, setting.name) == setting.default, setting.key


def test_every_setting_of_storage_is_here() -> None:
    assert {field.name for field in msgspec.structs.fields(StorageConfig)} == {
        setting.name for setting in SETTINGS.values() if setting.part == "storage"
    }


@pytest.mark.parametrize(("part", "kind"), [("storage", StorageConfig), ("meta", MetaConfig)])
def test_what_is_in_range_is_accepted_by_the_services(part: str, kind: type[msgspec.Struct]) -> None:
    for setting in SETTINGS.values():
        if setting.part != part:
            continue
        for value in (setting.low, setting.high):
            beside = {"storage.cache_share_max": 1.0} if setting.name == "cache_share_min" else {}
            toml = role_toml({**beside, setting.key: value}, PARTS[part])
            assert getattr(parse_config(kind, toml, "test"), setting.name) == value


def test_the_defaults_of_the_manager() -> None:
    assert manager_config({}, MgmtdConfig()) == MgmtdConfig()
    values = {key: SETTINGS[key].default for key in SETTINGS}
    assert manager_config(values, MgmtdConfig()) == MgmtdConfig()
    assert not any(key in role_toml(values, Role.META) for key in ("lease", "read_only"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"storage.frobnicate": 1}, "there is no setting 'storage.frobnicate'"),
        ({"storage.read_onyl": True}, "did you mean storage.read_only?"),
        ({"storage.read_only": 1}, "storage.read_only: 1 is not true or false"),
        ({"meta.stripe": True}, "meta.stripe: true is not a number"),
        ({"meta.stripe": 1.5}, "meta.stripe: 1.5 is not a whole number"),
        ({"meta.stripe": 0}, "meta.stripe: 0 is not between 1 and 1024"),
        ({"storage.resync_bytes_per_second": 1}, "is not between 65536 and 1099511627776, or 0"),
        ({"meta.chunk_size": 100_000}, "meta.chunk_size: 100000 is not a power of two"),
        ({"storage.cache_share_min": 0.9}, "storage.cache_share_min: 0.9 is more than storage.cache_share_max, 0.8"),
        ({"meta.sessions_interval_ms": 100_000}, "100000 times 3 is more than meta.session_silence_ms, 60000"),
        ({"mgmtd.heartbeat_ms": 2000}, "mgmtd.heartbeat_ms: 2000 is too slow for mgmtd.lease_ms, 3000"),
        ({"mgmtd.lease_ms": 600}, "mgmtd.heartbeat_ms: 500 is too slow for mgmtd.lease_ms, 600"),
        ({"mgmtd.drift_ms": 3000}, "mgmtd.drift_ms: 3000 must be less than mgmtd.lease_ms, 3000"),
        ({"cluster.replicas": 4}, "cluster.replicas: 4 is more than cluster.storage_nodes, 3"),
    ],
)
def test_what_makes_no_sense_is_named(values: dict[str, SettingValue], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check_settings(values)


def test_keys_that_belong_together_change_together() -> None:
    check_settings({"mgmtd.heartbeat_ms": 2000, "mgmtd.lease_ms": 6000})
    check_settings({"cluster.replicas": 4, "cluster.storage_nodes": 4})
    assert check_value("storage.cache_share_max", 1) == 1.0
    assert find_setting("meta.stripe").name == "stripe"


# --- changes -----------------------------------------------------------------------------------------------------------


def test_a_change_is_stored_and_survives() -> None:
    cluster = Cluster()
    assert change(cluster, storage__read_only=True, cluster__targets_per_node=3) == 1
    assert cluster.manager.config.targets_per_node == 3, "in force at once"
    cluster.restart()
    assert cluster.manager.settings.values == {"storage.read_only": True, "cluster.targets_per_node": 3}
    assert cluster.manager.config.targets_per_node == 3
    assert change(cluster, cluster__targets_per_node=None) == 2
    assert cluster.manager.config.targets_per_node == 2, "what the manager was started with"
    history = cluster.manager.settings.history()
    assert [version.values for version in history.versions] == [
        {"storage.read_only": True, "cluster.targets_per_node": 3},
        {"storage.read_only": True},
    ]
    assert history.versions[0].author == "me"
    assert history.values == {"storage.read_only": True, "cluster.targets_per_node": 2, "mgmtd.reconfigure": False}


def test_all_or_none() -> None:
    cluster = Cluster()
    refused(change(cluster, meta__stripe=4, meta__inline_bytes=-1), Code.CONFIG, "meta.inline_bytes: -1")
    assert cluster.manager.settings.values == {}
    assert not cluster.stored.settings


def test_only_the_role_that_is_meant_gets_a_new_configuration() -> None:
    cluster = Cluster()
    change(cluster, storage__read_only=True)
    assert cluster.manager.role_config(Role.STORAGE).toml == "read_only = true\n"
    assert cluster.manager.role_config(Role.META).version == 0
    change(cluster, meta__stripe=4)
    assert (cluster.manager.role_config(Role.STORAGE).version, cluster.manager.role_config(Role.META).version) == (1, 2)


def test_the_same_again_is_no_change() -> None:
    cluster = Cluster()
    assert change(cluster, meta__stripe=4) == 1
    assert change(cluster, meta__stripe=4) == 1
    assert len(cluster.stored.settings) == 1


def test_a_change_of_what_is_not_there_any_more_is_refused() -> None:
    cluster = Cluster()
    change(cluster, meta__stripe=4)
    change(cluster, meta__stripe=5)
    refused(change(cluster, 1, meta__stripe=6), Code.STALE, "version 2, not 1")
    assert change(cluster, 2, meta__stripe=6) == 3


@pytest.mark.parametrize("key", ["mgmtd__lease_ms", "mgmtd__heartbeat_ms", "mgmtd__drift_ms"])
def test_what_leases_are_made_of_stays(key: str) -> None:
    cluster = Cluster()
    refused(change(cluster, **{key: 700}), Code.CONFIG, "is set when the cluster is made")
    same = SETTINGS[key.replace("__", ".")].default
    assert change(cluster, **{key: same}) == 1, "what it is anyway"


def test_old_versions_are_forgotten() -> None:
    cluster = Cluster()
    for number in range(1, settings_kept_max + 4):
        change(cluster, meta__stripe=number)
    assert sorted(cluster.stored.settings) == list(range(4, settings_kept_max + 4))
    assert len(cluster.manager.settings.history().versions) == settings_kept_max


def test_a_key_of_another_version_of_fs3_is_kept() -> None:
    cluster = Cluster()
    change(cluster, meta__stripe=4)
    (version,) = cluster.stored.settings.values()
    cluster.stored.settings[1] = msgspec.structs.replace(version, values={**version.values, "meta.new_here": 7})
    cluster.restart()
    assert change(cluster, meta__stripe=5) == 2
    assert cluster.manager.settings.values == {"meta.stripe": 5, "meta.new_here": 7}


def test_chains_that_were_left_alone_follow_once_they_may() -> None:
    cluster = Cluster()
    cluster.form()
    for node in (1, 2, 3):
        cluster.beat(node)
    cluster.pass_time(10 * SECOND, beating=(1, 2))
    assert cluster.states() == {(SERVING, SERVING, SERVING)}, "this manager was told to leave chains alone"
    change(cluster, mgmtd__reconfigure=True)
    assert all(sorted(states) == sorted((SERVING, SERVING, OFFLINE)) for states in cluster.states())
    change(cluster, mgmtd__reconfigure=False)
    cluster.pass_time(10 * SECOND, beating=(1,))
    assert all(sorted(states) == sorted((SERVING, SERVING, OFFLINE)) for states in cluster.states())


def test_how_far_each_node_is() -> None:
    cluster = Cluster()
    cluster.form()
    change(cluster, storage__read_only=True)
    cluster.beat(1, config_version=1)
    cluster.beat(2, config_version=1, config_problem="no such key")
    told = [node.settings for node in cluster.manager.node_statuses(cluster.now)]
    assert [(each.version, each.newest_version, each.problem) for each in told] == [
        (1, 1, ""),
        (1, 1, "no such key"),
        (0, 1, ""),
    ]


def test_versions_go_on_after_a_manager_that_knew_of_none() -> None:
    """A release without settings stores the counters without theirs."""
    cluster = Cluster()
    change(cluster, **{"meta.stripe": 2})
    change(cluster, **{"meta.stripe": 3})
    cluster.stored.counters = msgspec.structs.replace(cluster.stored.counters, settings=0)
    cluster.restart()
    refused(change(cluster, 1, **{"meta.stripe": 5}), Code.STALE, "the settings have version 2, not 1")
    assert change(cluster, 2, **{"meta.stripe": 4}) == 3
    assert cluster.manager.settings.values == {"meta.stripe": 4}
