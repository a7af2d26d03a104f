"""The devices of a host, as the kernel lists them."""

from __future__ import annotations

from pathlib import Path

from fs3.drivers.rdma.devices import list_addresses
from fs3.sim.fabric import FakePort, write_sysfs

V4 = "0000:0000:0000:0000:0000:ffff:0a00:0001"
LINK = "fe80:0000:0000:0000:0000:00ff:fe00:0001"


def test_a_host_without_devices(tmp_path: Path) -> None:
    for sysfs in (tmp_path, tmp_path / "none"):
        assert list_addresses(("any",), sysfs) == ((), ("this host has no RDMA device",))


def test_addresses_are_named_by_their_interface_and_routable_ones_come_first(tmp_path: Path) -> None:
    ports = [
        FakePort("mlx5_1", LINK, netdev="bond0"),
        FakePort("mlx5_1", V4, netdev="bond0.7"),
        FakePort("mlx5_1", V4, kind="RoCE v1"),
    ]
    write_sysfs(tmp_path, ports)
    found = list_addresses(("any",), tmp_path)
    assert [(one.kind, one.gid, one.netdev, one.gid_index) for one in found.usable] == [
        ("RoCE v2", V4, "bond0.7", 1),
        ("RoCE v2", LINK, "bond0", 0),
        ("RoCE v1", V4, "", 2),
    ]
    assert str(found.usable[0]) == f"mlx5_1/1 (bond0.7) RoCE v2 {V4}"
    assert found.rejected == ()


def test_infiniband_has_addresses_without_an_interface(tmp_path: Path) -> None:
    write_sysfs(tmp_path, [FakePort("ib0", LINK, kind="IB/RoCE v1", link_layer="InfiniBand")])
    (tmp_path / "ib0" / "ports" / "1" / "lid").write_text("0x2a\n")
    ((only,), rejected) = list_addresses(("any",), tmp_path)
    assert (only.kind, only.lid, rejected) == ("IB", 42, ())


def test_what_is_not_used_is_told(tmp_path: Path) -> None:
    write_sysfs(
        tmp_path,
        [
            FakePort("down", V4, state="1: DOWN"),
            FakePort("fine", V4, netdev="eth0"),
            FakePort("mute", "0000:0000:0000:0000:0000:0000:0000:0000"),
            FakePort("other", V4, netdev="eth1"),
        ],
    )
    (tmp_path / "portless").mkdir()
    found = list_addresses(("eth0", "mute", "gone"), tmp_path)
    assert [one.device for one in found.usable] == ["fine"]
    assert found.rejected == (
        "down/1 is DOWN, not ACTIVE",
        "mute/1 has no address",
        "other/1 is not among the devices allowed: eth0, mute, gone",
        "portless has no port",
        "there is no 'gone'",
    )
