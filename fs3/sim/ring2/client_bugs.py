"""What the planted bugs about whose a client is exchange: see `fs3.sim.ring2.bugs`."""

from __future__ import annotations

from fs3.base.ids import ClientId
from fs3.core.files.file_clients import FileClient, FileClientKind, parse_file_client
from fs3.core.security.client_owners import ClientOwners
from fs3.core.txn import ReadTxn
from fs3.model.principal import AuthContext
from fs3.ports.rpc import Handler
from fs3.services.meta import caller_guard
from fs3.services.storage import tag_guard
from fs3.services.storage.tag_guard import TagGuard
from fs3.sim.ring2.service_bug import ServiceBug

_SCENE = "a_client_is_its_users"


def bind_to_anyone(self: ClientOwners, client: bytes, owner: str) -> bool:
    """The one that asks last has it."""
    self._owners[client] = owner
    return True


async def find_nothing(txn: ReadTxn, client: ClientId) -> str:
    """A process that begins knows of no one's clients."""
    return ""


def take_all(self: TagGuard, handler: Handler) -> Handler:
    """The tag of an update is the client's own affair."""
    return handler


def take_all_for_drawn(client: bytes) -> FileClient | None:
    """The one that uses the id of a file first has it."""
    return None


def take_services_for_drawn(client: bytes) -> FileClient | None:
    """Likewise, of those that only metadata services use."""
    found = parse_file_client(client)
    return found if found is not None and found.kind is FileClientKind.APPEND else None


def find_no_misuse(of_file: FileClient, auth: AuthContext, chunk: bytes) -> str:
    """An id of a file counts for whatever it is used for."""
    return ""


CLIENT_BUGS: dict[str, ServiceBug] = {
    "client_of_anyone": ServiceBug(
        "a client id belongs to whichever user names it last",
        [(ClientOwners, "bind", bind_to_anyone)],
        scene=_SCENE,
    ),
    "client_forgotten_by_a_restart": ServiceBug(
        "a metadata service that begins does not look up whose a client is",
        [(caller_guard, "find_owner", find_nothing)],
        scene=_SCENE,
    ),
    "update_of_any_client": ServiceBug(
        "a storage node takes updates in the name of other users' clients",
        [(TagGuard, "updates", take_all)],
        scene=_SCENE,
    ),
    "file_client_of_the_first": ServiceBug(
        "the id under which all append to a file belongs to the user that appends first",
        [(tag_guard, "parse_file_client", take_all_for_drawn)],
        scene="users_share_files",
    ),
    "truncations_of_the_first": ServiceBug(
        "the id under which a file is truncated belongs to the metadata service that truncates first",
        [(tag_guard, "parse_file_client", take_services_for_drawn)],
        scene="metas_truncate_in_turn",
    ),
    "file_client_of_anyone": ServiceBug(
        "updates under the id of a file are taken from anyone, for any chunk",
        [(tag_guard, "_find_misuse", find_no_misuse)],
        scene=_SCENE,
    ),
}
