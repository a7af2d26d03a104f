"""What URLs mean that a library has taken apart and put together again, and which storage options are known."""

from __future__ import annotations

from typing import Any

import fsspec
import pytest

from fs3.api.fsspec import clusters
from fs3.api.fsspec.base import URL_CLUSTER
from fs3.api.fsspec.filesystem import FS3FileSystem
from fs3.api.url import split_url
from fs3.base.errors import InvalidArgument


@pytest.fixture(autouse=True)
def nothing_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_opened", {})
    monkeypatch.delenv("FS3_CLUSTER", raising=False)


def test_without_a_known_cluster_the_first_part_is_a_host() -> None:
    assert clusters.interpret_url("fs3://a/b") == (["a:8000"], "/b")
    assert FS3FileSystem._get_kwargs_from_urls("fs3://a/b") == {URL_CLUSTER: "a:8000"}
    with pytest.raises(InvalidArgument, match="FS3_CLUSTER"):
        clusters.default_addresses()


@pytest.mark.parametrize("opened", [["h:1"], ["h:1", "i:2"], []])
def test_with_an_opened_cluster_it_is_a_directory(opened: list[str]) -> None:
    clusters.remember_cluster(opened)
    assert FS3FileSystem._strip_protocol("fs3://a/b") == "/a/b"
    assert FS3FileSystem._strip_protocol("fs3://a") == "/a"
    assert FS3FileSystem._get_kwargs_from_urls("fs3://a/b") == {}
    assert clusters.interpret_url("fs3://a:8000/b") == (["a:8000"], "/b")
    assert clusters.interpret_url("fs3://10.0.0.1/b") == (["10.0.0.1:8000"], "/b")
    if opened:
        assert clusters.default_addresses() == opened


def test_with_fs3_cluster_set_it_is_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FS3_CLUSTER", "storage.example:8000,h:9")
    assert clusters.interpret_url("fs3://a/b") == ([], "/a/b")
    assert clusters.interpret_url("fs3://storage.example/b") == (["storage.example:8000"], "/b")
    assert clusters.default_addresses() == ["storage.example:8000", "h:9"]


def test_of_several_opened_clusters_none_is_the_default() -> None:
    clusters.remember_cluster(["h:1"])
    clusters.remember_cluster(["i:2"])
    with pytest.raises(InvalidArgument, match="FS3_CLUSTER"):
        clusters.default_addresses()


def test_a_cluster_may_be_given_in_the_url_and_as_an_option() -> None:
    """Whatever fsspec does with what it finds twice."""
    by_url, path = fsspec.url_to_fs("fs3://h:1,i/x", cluster="h:1,i:8000", skip_instance_cache=True)
    assert (by_url.addresses, path) == (["h:1", "i:8000"], "/x")
    assert "url_cluster" not in by_url.storage_options


def test_an_instance_is_the_same_by_url_and_by_option() -> None:
    by_url, _ = fsspec.url_to_fs("fs3://same:1/x")
    assert by_url is fsspec.filesystem("fs3", cluster="same:1") is fsspec.url_to_fs("fs3://same:1/x", cluster="same:1")[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster": "i:1"}, "cluster"),
        ({"cluster": 5}, "cluster"),
        ({"path": "x"}, "both cluster 'h:1' and path 'x'"),
    ],
)
def test_options_that_contradict_the_url_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        fsspec.url_to_fs("fs3://h:1/x", skip_instance_cache=True, **options)


def test_mistyped_options_are_refused() -> None:
    with pytest.raises(TypeError, match=r"'clutser'.*did you mean 'cluster'"):
        FS3FileSystem(clutser="h:1", skip_instance_cache=True)
    with pytest.raises(TypeError, match=r"'nonsense'.*known are"):
        FS3FileSystem(cluster="h:1", nonsense=1, skip_instance_cache=True)


@pytest.mark.parametrize("options", [{"hf": {"token": "x"}}, {"encoding": "utf-8", "errors": None}, {"client_kwargs": {}}])
def test_options_that_libraries_hand_to_every_file_system_are_taken(options: dict[str, object]) -> None:
    assert FS3FileSystem(cluster="h:1", skip_instance_cache=True, **options).addresses == ["h:1"]


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("fs3://[::1]:8123/x", ["[::1]:8123"]),
        ("fs3://[::1]/x", ["[::1]:8000"]),
        ("fs3://[fe80::1%eth0]:1/x", ["[fe80::1%eth0]:1"]),
        ("fs3://a, b:2/x", ["a:8000", "b:2"]),
    ],
)
def test_addresses(url: str, addresses: list[str]) -> None:
    assert split_url(url) == (addresses, "/x")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("fs3://::1/x", r"in brackets, \[::1\]:8000"),
        ("fs3://fe80::2:80:9000/x", "in brackets"),
        ("fs3://[::1/x", "is not host:port"),
        ("fs3://[name]:1/x", "no IPv6 address"),
        ("fs3://a:70000/x", "1 to 65535"),
        ("fs3://a:/x", "is not host:port"),
        ("fs3://user@a:1/x", "is not host:port"),
        ("fs3://,/x", "is not host:port"),
    ],
)
def test_addresses_that_are_none(url: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        split_url(url)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": ""}, "path is empty"),
        ({"path": b"x"}, "path is a bytes"),
        ({"path": 5}, "path is a int"),
        ({"cluster": ["host:1"]}, "cluster is a list"),
        ({"cluster": b"host:1"}, "cluster is a bytes"),
    ],
)
def test_a_cluster_is_text_and_a_directory_is_a_path(options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FS3FileSystem(skip_instance_cache=True, **options)


def test_a_url_with_the_letters_of_chains_is_said_to_be_one() -> None:
    with pytest.raises(TypeError, match=r'"::" in a URL lays one file system on another'):
        fsspec.open("fs3://127.0.0.1:1/a::b")
