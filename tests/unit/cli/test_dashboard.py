"""`fs3 dashboard`: what it says beside the address."""

from __future__ import annotations

import pytest

from fs3.cli.dashboard import explain_loopback
from fs3.model.cluster import ManagerInfo


@pytest.mark.parametrize(
    ("tcp", "page", "words"),
    [
        ("tcp://10.9.0.1:8000", "http://127.0.0.1:9400", "from another one: ssh -L 9400:127.0.0.1:9400 10.9.0.1"),
        ("tcp://[fd00::1]:8000", "http://[::1]:9400", "ssh -L 9400:[::1]:9400 fd00::1"),
        ("tcp://10.9.0.1:8000", "http://10.9.0.1:9400", ""),
        ("tcp://127.0.0.1:8000", "http://127.0.0.1:9400", ""),
    ],
)  # fmt: skip
def test_a_page_that_only_its_own_machine_reaches(tcp: str, page: str, words: str) -> None:
    said = explain_loopback(ManagerInfo("h1-mgmtd", (tcp, page), True), page)
    assert said.endswith(words)
    assert bool(said) is bool(words)
