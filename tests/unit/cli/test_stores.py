"""The setting that says where the rows are."""

from pathlib import Path

import pytest

from fs3.base.errors import FS3Error, InvalidArgument
from fs3.cli.cluster import choose_shape, serve_command
from fs3.cli.directory import ClusterDirectory, Shape
from fs3.cli.metadata_copy import store_of
from fs3.cli.options import ServeOptions, ServiceRole
from fs3.cli.stores import STORE_KEY, StoreLocation, parse_store, store_in_config
from fs3.drivers.etcd.access import EtcdAccess
from fs3.runtime.config import load_config
from fs3.services.meta.config import MetaConfig

ETCD = "etcd://h1:2379,h2:2379,[::1]:2379"


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("/var/lib/fs3/kv", StoreLocation(Path("/var/lib/fs3/kv"))),
        ("lmdb:/var/lib/fs3/kv", StoreLocation(Path("/var/lib/fs3/kv"))),
        (ETCD, StoreLocation(None, ("h1:2379", "h2:2379", "[::1]:2379"), "fs3")),
        ("etcd://h1:2379/", StoreLocation(None, ("h1:2379",), "fs3")),
        ("etcd://h1:2379/blue-7", StoreLocation(None, ("h1:2379",), "blue-7")),
        ("etcds://h1:2379", StoreLocation(None, ("h1:2379",), "fs3", EtcdAccess(tls=True))),
        (
            "etcd://h1:2379/x?ca=/a b&cert=/c&key=/k&user=me%26&password_file=/p",
            StoreLocation(None, ("h1:2379",), "x", EtcdAccess(ca="/a b", cert="/c", key="/k", user="me&", password_file="/p")),
        ),
    ],
)
def test_what_it_says(text: str, location: StoreLocation) -> None:
    assert parse_store(text) == location
    assert parse_store(str(location)) == location


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("etcd://", "names no member"),
        ("etcd://h1", "h1"),
        ("etcd://h1:x", "h1:x"),
        ("etcd://h1:2379,::1:2379", "::1"),
        ("etcd://h1:2379/a/b", "'a/b'"),
        ("etcd://h1:2379/" + "a" * 65, "64"),
        ("redis://h1:1", "redis"),
        ("etcd://h1:2379?ca", "NAME=VALUE"),
        ("etcd://h1:2379?password=x", "there are ca, cert, key, user, password_file"),
        ("etcd://h1:2379?ca=/a&ca=/b", "each once"),
        ("etcd://h1:2379?ca=", "with a value"),
        ("etcd://h1:2379?cert=/c", "cert and key belong together"),
        ("etcd://h1:2379?user=me", "user and password_file belong together"),
        ("lmdb:", "lmdb"),
    ],
)
def test_what_says_nothing_that_can_be_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match="--kv") as refused:
        parse_store(text)
    assert told in str(refused.value)


def test_a_process_without_the_setting_keeps_its_rows_in_its_directory(tmp_path: Path) -> None:
    options = ServeOptions(ServiceRole.meta, "meta-7", tmp_path, "", "", "", "", (), 1, 1, 1, None)
    assert options.store() == StoreLocation(tmp_path / "kv")
    assert options.store().directories == [tmp_path / "kv"]
    assert parse_store(ETCD).directories == []


def test_the_file_of_a_service_may_say_it(tmp_path: Path) -> None:
    file = tmp_path / "meta.toml"
    file.write_text(f'kv = "{ETCD}"\nstripe = 3\n')
    assert store_in_config(file) == parse_store(ETCD)
    assert load_config(MetaConfig, file, besides=(STORE_KEY,)).stripe == 3
    file.write_text("stripe = 3\n")
    assert store_in_config(file) is None
    assert store_in_config(None) is None
    for wrong in ("kv = 3", 'kv = "etcd://"'):
        file.write_text(wrong)
        with pytest.raises(FS3Error, match=r"meta\.toml: kv ="):
            store_in_config(file)
    file.write_text('kw = "x"')
    with pytest.raises(FS3Error, match=r"unknown key 'kw'; known keys are .*kv"):
        load_config(MetaConfig, file, besides=(STORE_KEY,))


def test_all_managers_and_metas_of_a_cluster_get_the_setting(tmp_path: Path) -> None:
    shape = choose_shape({"kv": ETCD, "metas": 2}, None, tmp_path)
    directory = ClusterDirectory(tmp_path)
    for name in ("mgmtd", "meta", "meta-2"):
        command = serve_command(shape, directory, name)
        assert command[command.index("--kv") + 1] == ETCD
    assert "--kv" not in serve_command(shape, directory, "storage-1")


def test_the_rows_of_a_cluster_stay_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="in its directory"):
        choose_shape({"kv": ETCD}, Shape(), tmp_path)
    with pytest.raises(InvalidArgument, match="h1:2379"):
        choose_shape({"kv": "etcd://other:2379"}, Shape(kv=ETCD), tmp_path)
    assert choose_shape({"kv": ETCD, "metas": 3}, Shape(kv=ETCD), tmp_path).metas == 3
    assert choose_shape({}, Shape(kv=ETCD), tmp_path).kv == ETCD
    with pytest.raises(InvalidArgument, match="by default"):
        choose_shape({"kv": "lmdb:/elsewhere"}, None, tmp_path)


def test_copies_of_metadata_in_etcd_are_exports(tmp_path: Path) -> None:
    ClusterDirectory(tmp_path).save(Shape(kv=ETCD), {})
    with pytest.raises(FS3Error, match="kv export"):
        store_of(tmp_path)
