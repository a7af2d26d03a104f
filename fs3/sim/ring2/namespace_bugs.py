"""What the planted bugs of namespaces exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from fs3.api.kvcache import KVCache
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.namespace_log import NamespaceLog
from fs3.core.membership.namespaces import Namespaces
from fs3.model.cluster import CacheNamespace
from fs3.services.storage.namespaces import NamespaceTable
from fs3.sim.ring2.service_bug import ServiceBug


def count_given_out(self: Namespaces) -> tuple[int, int]:
    """The next id is told as it is in memory, with those given out that are not stored yet."""
    return self._ledger.durable_counters.namespace_change, self._ledger.state.counters.namespace + 1


def lowest_free_id(self: Namespaces) -> int:
    """An id that no namespace has any more is as good as a new one."""
    used = {namespace.id for namespace in self._ledger.state.namespaces.values()}
    number = next(number for number in range(1, len(used) + 2) if number not in used)
    self._ledger.set_counters(namespace=max(number, self._ledger.state.counters.namespace))
    return number


def salt_of_the_id(self: Namespaces, number: int) -> bytes:
    """An id that is given out again comes with what it came with before."""
    return number.to_bytes(8, "little")


def forget_without_counting(self: Ledger, namespace: CacheNamespace) -> None:
    """Clients are told of a namespace that was made, and not of one that is gone."""
    deletions = self.state.counters.namespace_deletion
    _real_forget(self, namespace)
    self.set_counters(namespace_deletion=deletions)


_real_forget = Ledger.forget_namespace


async def read_with_last_next_id(self: NamespaceTable) -> None:
    """What the last page says of ids is taken to hold for the first one."""
    found: dict[int, CacheNamespace] = {}
    after = ""
    while True:
        page = await self._source.list_namespaces(after=after)
        found.update((namespace.id, namespace) for namespace in page.namespaces)
        if not page.more:
            break
        after = page.namespaces[-1].name
    self._namespaces, self.version, self.next_id = found, page.version, page.next_id


def know_all_since(self: NamespaceLog, version: int, items_max: int) -> tuple[list[str], list[int]]:
    """What a manager has seen change since it leads is all that has changed."""
    changes = [change for change in self._changes if change.version > version]
    return [name for change in changes for name in change.names], [number for change in changes for number in change.gone]


def follow_the_name(self: KVCache, found: CacheNamespace | None) -> None:
    """Whatever has the name is the namespace that was opened."""
    if found is None:
        self._is_deleted = True
    else:
        self._namespace, self.namespace_id = found, found.id


def stay_with_the_id(self: KVCache, found: CacheNamespace | None) -> None:
    """A namespace that was cleared goes on under its old id, for every client that has not cleared it."""
    self._is_deleted = found is None


NAMESPACE_BUGS: dict[str, ServiceBug] = {
    "namespace_not_stored": ServiceBug(
        "ids count as given out to namespaces before these are stored",
        [(Namespaces, "_version_and_next_id", count_given_out)],
        scene="nodes_know_the_namespaces",
    ),
    "namespace_id_again": ServiceBug(
        "the id of a namespace that was deleted is given to another one",
        [(Namespaces, "_next_id", lowest_free_id)],
        scene="nodes_know_the_namespaces",
    ),
    "namespace_id_unsalted": ServiceBug(
        "pages are hashed with what is the same whenever an id is given out",
        [(Namespaces, "_make_salt", salt_of_the_id)],
        scene="an_older_list_is_put_back",
    ),
    "namespaces_unproven": ServiceBug(
        "a list of namespaces that changed while it was read is taken for what there was at its end",
        [(NamespaceTable, "read", read_with_last_next_id)],
        scene="nodes_know_the_namespaces",
    ),
    "namespaces_since_election": ServiceBug(
        "a manager takes what changed since it was elected for all that a storage node has missed",
        [(NamespaceLog, "since", know_all_since)],
        scene="nodes_know_the_namespaces",
    ),
    "clears_in_silence": ServiceBug(
        "clients are not told that a namespace was cleared or deleted",
        [(Ledger, "forget_namespace", forget_without_counting)],
        scene="clear_what_a_client_goes_on_with",
    ),
    "stays_uncleared": ServiceBug(
        "a handle of a namespace that another client has cleared goes on with its old pages",
        [(KVCache, "_follow", stay_with_the_id)],
        scene="clear_what_a_client_goes_on_with",
    ),
    "namespace_by_name": ServiceBug(
        "a handle of a deleted namespace goes on with another one that is made under its name",
        [(KVCache, "_follow", follow_the_name)],
        scene="make_a_namespace_again",
    ),
}
