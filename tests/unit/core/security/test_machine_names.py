"""What the certificate of a machine may be for."""

from __future__ import annotations

import pytest

from fs3.core.security.machine_names import canonical_address, names_to_resolve, why_not_for


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("10.9.0.2", "10.9.0.2"),
        ("::ffff:10.9.0.2", "10.9.0.2"),
        ("[fd99::2]", "fd99::2"),
        ("FD99:0:0::2", "fd99::2"),
        ("fe80::1%eth0", "fe80::1"),
        ("h2", ""),
        ("10.9.0", ""),
        ("", ""),
    ],
)
def test_addresses_have_one_form(written: str, canonical: str) -> None:
    assert canonical_address(written) == canonical


LEADS = {"h2": frozenset({"10.9.0.2", "fd99::2"}), "nowhere": frozenset(), "*.lan": frozenset({"10.9.0.2"})}


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        (("10.9.0.2",), "10.9.0.2"),
        (("::ffff:10.9.0.2",), "10.9.0.2"),
        (("10.9.0.2",), "::ffff:10.9.0.2"),
        (("h2", "10.9.0.2"), "10.9.0.2"),
        (("h2",), "fd99::2"),
        (("allowed", "ALLOWED", "10.1.1.1", "::ffff:10.1.1.1"), "10.9.0.9"),
        (("*.example.com",), "10.9.0.9"),
    ],
)
def test_what_a_machine_is_seen_at_or_was_allowed(wanted: tuple[str, ...], seen: str) -> None:
    assert why_not_for(wanted, seen, LEADS, ("Allowed", "10.1.1.1", "*.Example.com")) == ""


@pytest.mark.parametrize(
    ("wanted", "seen", "told"),
    [
        ((), "10.9.0.2", "at least one"),
        (("10.9.0.1",), "10.9.0.2", "'10.9.0.1': the request comes from 10.9.0.2, and that is another address"),
        (("h2",), "10.9.0.3", "'h2': the request comes from 10.9.0.3, and the name leads to 10.9.0.2, fd99::2"),
        (("10.9.0.2", "h1"), "10.9.0.2", "'h1': the request comes from 10.9.0.2, and no such host is known here"),
        (("nowhere",), "10.9.0.2", "no such host"),
        (("nowhere",), "", "comes from no address"),
        (("10.1.1.2",), "10.9.0.9", "--address 10.1.1.2 allows it"),
        (("*",), "10.9.0.2", "'*': the request comes from 10.9.0.2, and that stands for many hosts"),
        (("*.lan",), "10.9.0.2", "--address *.lan allows it"),
    ],
)
def test_what_is_of_another_machine(wanted: tuple[str, ...], seen: str, told: str) -> None:
    assert told in why_not_for(wanted, seen, LEADS, ("allowed", "10.1.1.1"))


def test_only_names_that_have_to_be_are_looked_up() -> None:
    assert names_to_resolve(("h2", "10.9.0.2", "allowed", "fd99::2", "*.lan"), ("ALLOWED",)) == ["h2"]
