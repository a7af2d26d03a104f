"""What the certificate of a machine may be for: names and addresses that it is seen at, or that were allowed it.

Who has a token could else have a certificate of a manager's address, and sit in front of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address

_WILDCARD = "*"


def canonical_address(text: str) -> str:
    """An IP address in one form, whatever form it was written in; "" for a text that is none."""
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def names_to_resolve(wanted: Iterable[str], allowed: Sequence[str]) -> Sequence[str]:
    """Those of the wanted ones that are host names, and not allowed anyway. A name with `*` is the name of no host, also where
    one is answered for it."""
    return [each for each in wanted if not (canonical_address(each) or _WILDCARD in each or each.lower() in _lowered(allowed))]


def why_not_for(wanted: Sequence[str], seen: str, resolved: Mapping[str, frozenset[str]], allowed: Sequence[str]) -> str:
    """Why a machine gets no certificate for these; "" when it does.

    `seen`: the address that its request comes from. `resolved`: where names of `names_to_resolve` lead to.
    """
    if not wanted:
        return "a certificate of a machine is for at least one name or address"
    source, granted = canonical_address(seen), _lowered(allowed)
    for each in wanted:
        address = canonical_address(each)
        if each.lower() in granted or (address and (address == source or address in granted)):
            continue
        if address:
            leads = "that is another address"
        elif _WILDCARD in each:
            leads = "that stands for many hosts"
        elif found := resolved.get(each):
            if source in {canonical_address(one) for one in found}:
                continue
            leads = f"the name leads to {', '.join(sorted(found))}"
        else:
            leads = "no such host is known here"
        return (
            f"no certificate is issued for {each!r}: the request comes from {seen or 'no address'}, and {leads}. "
            f"A token that is made with --address {each} allows it"
        )
    return ""


def _lowered(allowed: Iterable[str]) -> frozenset[str]:
    return frozenset(canonical_address(each) or each.lower() for each in allowed)
