"""Replicas of a chain in different failure domains.

Intuition: nodes of one rack fail together, so a chain has at most one replica in each. Where there are fewer racks than replicas
this cannot be, and then the chain shares as little as it can.

Algorithm: nodes are put into groups at the coarsest level that has at least r of them: zones, else racks, else each node by
itself. Every chain takes its r members from r different groups. Each group gets a quota of places in proportion to its nodes, but
never more than one for each chain; what a large group cannot take goes to the others. A group of which as many places are left
as chains must be taken from now; of the others, the one that shares least with the chain so far and has most places left. So the
last chain still finds r different groups.

Limits: groups of very different sizes use nodes unevenly, since a chain needs a place in each all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from fs3.base.prng import Prng
from fs3.model.domain import Domain, shared_levels

_CANDIDATES = 64


def domain_groups(domains: Sequence[Domain], replicas: int) -> list[int]:
    """The group of each node, numbered from 0: no two replicas of a chain are in one group."""
    for level in (_zone, _rack):
        names = [level(domain, index) for index, domain in enumerate(domains)]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        if len(numbers) >= replicas:
            return [numbers[name] for name in names]
    return list(range(len(domains)))


def groups_alike(domains: Sequence[Domain], replicas: int) -> list[list[int]]:
    """The nodes of each group, when all groups have the same size and nothing else is to be kept apart; empty: they are not
    alike. That is so where groups are zones, or racks of one zone."""
    members: dict[int, list[int]] = {}
    for node, group in enumerate(domain_groups(domains, replicas)):
        members.setdefault(group, []).append(node)
    groups = list(members.values())
    same_size = len({len(group) for group in groups}) == 1
    zones = {domain.zone for domain in domains}
    by_zone = all(len({domains[node].zone for node in group}) == 1 for group in groups) and len(groups) == len(zones)
    return groups if same_size and (by_zone or len(zones) == 1) else []


def _zone(domain: Domain, index: int) -> tuple[object, ...]:
    return (domain.zone,) if domain.zone else _rack(domain, index)


def _rack(domain: Domain, index: int) -> tuple[object, ...]:
    return (domain.zone, domain.rack) if domain.rack else (domain.zone, "", index)


def count_shared(domain: Domain, company: Sequence[Domain]) -> int:
    """How much a replica would share with the others of its chain; 0: nothing. One shared rack outweighs all shared zones."""
    return sum((0, 1, 1000)[shared_levels(domain, other)] for other in company)


def note_pairs(shared: list[list[int]], chain: Sequence[int]) -> None:
    """`shared`: how many chains each two nodes have in common. They have this one as well."""
    for node in chain:
        for other in chain:
            if other != node:
                shared[node][other] += 1


class Apart:
    """What must not come together when members are exchanged between chains."""

    def __init__(self, domains: Sequence[Domain], groups: Sequence[int]) -> None:
        self._domains = domains
        self._groups = groups

    def may_exchange(self, a: int, firsts: Sequence[int], b: int, seconds: Sequence[int]) -> bool:
        """Whether `a` may leave the company of `firsts` for that of `seconds`, and `b` the other way round."""
        groups = self._groups
        if any(groups[other] == groups[a] for other in seconds) or any(groups[other] == groups[b] for other in firsts):
            return False
        before = self._count_shared(a, firsts) + self._count_shared(b, seconds)
        return self._count_shared(a, seconds) + self._count_shared(b, firsts) <= before

    def _count_shared(self, node: int, company: Sequence[int]) -> int:
        return count_shared(self._domains[node], [self._domains[other] for other in company])


def quotas(sizes: Sequence[int], chains: int, replicas: int) -> list[int]:
    """How many places each group gets: `chains * replicas` together, in proportion to sizes, none more than `chains`."""
    shares = [0] * len(sizes)
    for _ in range(chains * replicas):
        open_groups = (group for group, share in enumerate(shares) if share < chains and sizes[group])
        chosen = min(open_groups, key=lambda group: ((shares[group] + 1) / sizes[group], group))
        shares[chosen] += 1
    return shares


def choose_apart(domains: Sequence[Domain], targets_per_node: int, replicas: int, prng: Prng) -> list[list[int]]:
    """The members of every chain of a table over these nodes, r different groups in each."""
    groups = domain_groups(domains, replicas)
    members: list[list[int]] = [[] for _ in range(max(groups) + 1)]
    for node, group in enumerate(groups):
        members[group].append(node)
    count = len(domains) * targets_per_node // replicas
    group_left = quotas([len(nodes) for nodes in members], count, replicas)
    left = [0] * len(domains)
    for group, nodes in enumerate(members):
        for place, node in enumerate(nodes):
            left[node] = group_left[group] // len(nodes) + (place < group_left[group] % len(nodes))
    shared = [[0] * len(domains) for _ in domains]
    chains = []
    for remaining in range(count, 0, -1):
        chain: list[int] = []
        for _ in range(replicas):
            taken = {groups[node] for node in chain}
            free = [group for group, places in enumerate(group_left) if places and group not in taken]
            due = [group for group in free if group_left[group] >= remaining]
            candidates = [node for group in due or free for node in _fullest(members[group], left)]
            prng.shuffle(candidates)
            chosen = min(
                candidates[:_CANDIDATES],
                key=lambda node: (
                    count_shared(domains[node], [domains[other] for other in chain]),
                    -left[node],
                    sum(2 * shared[node][other] + 1 for other in chain),
                ),
            )
            chain.append(chosen)
            group_left[groups[chosen]] -= 1
            left[chosen] -= 1
        note_pairs(shared, chain)
        chains.append(chain)
    return chains


def _fullest(nodes: Sequence[int], left: Sequence[int]) -> list[int]:
    most = max(left[node] for node in nodes)
    return [node for node in nodes if left[node] == most]
