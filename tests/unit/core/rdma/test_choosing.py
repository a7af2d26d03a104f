"""Which addresses suit each other, and in which order they are tried."""

from __future__ import annotations

from fs3.core.rdma.choosing import choose
from fs3.model.rdma import INFINIBAND, ROCE_V1, ROCE_V2, RdmaAddress


def _address(device: str, gid: str, kind: str = ROCE_V2) -> RdmaAddress:
    return RdmaAddress(device, 1, 0, gid, kind)


def _ipv4(text: str) -> str:
    a, b, c, d = (int(part) for part in text.split("."))
    return f"0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}"


LINK = "fe80:0000:0000:0000:0000:00ff:fe00:000"
GLOBAL = "2001:0db8:0000:0000:0000:0000:0000:000"


def test_the_same_network_comes_first_and_link_local_last() -> None:
    ours = [
        _address("a", f"{LINK}1"),
        _address("a", _ipv4("10.1.0.1")),
        _address("b", _ipv4("10.2.0.1")),
        _address("a", f"{GLOBAL}1"),
    ]
    theirs = [_address("x", _ipv4("10.2.0.9")), _address("x", f"{LINK}9"), _address("x", f"{GLOBAL}9")]
    found = choose(ours, theirs)
    assert [(pair.ours.gid[-9:], pair.theirs) for pair in found.pairs] == [
        ("0a02:0001", 0),
        (f"{GLOBAL}1"[-9:], 2),
        ("0a01:0001", 0),
        (f"{LINK}1"[-9:], 1),
    ]
    assert found.rejected == ()


def test_kinds_are_not_mixed_and_the_better_one_comes_first() -> None:
    ours = [_address("ib", f"{LINK}1", INFINIBAND), _address("r1", f"{LINK}2", ROCE_V1), _address("r2", _ipv4("10.0.0.1"))]
    theirs = [_address("r1", f"{LINK}3", ROCE_V1), _address("r2", _ipv4("10.0.0.2")), _address("ib", f"{LINK}4", INFINIBAND)]
    assert [(pair.ours.device, pair.theirs) for pair in choose(ours, theirs).pairs] == [("r2", 1), ("ib", 2), ("r1", 0)]


def test_why_there_is_no_pair() -> None:
    mine = _address("mlx0", _ipv4("10.0.0.1"))
    assert choose([], [mine]).rejected == ("this end has no RDMA address",)
    assert choose([mine], []).rejected == ("the other end has no RDMA address",)
    assert choose([mine], [_address("x", f"{GLOBAL}1")]).rejected == (f"{mine}: the other end has no address of the same family",)
    assert choose([mine], [_address("x", f"{LINK}1", INFINIBAND)]).rejected == (f"{mine}: the other end has no RoCE v2",)
    odd = _address("new", _ipv4("10.0.0.3"), "RoCE v9")
    assert "no kind of address that is known" in choose([odd], [mine]).rejected[0]
