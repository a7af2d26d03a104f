"""Which right each verb asks for, and what it looks at besides, as a table for people. The rights themselves are options in the
.proto files, and are what servers admit requests by."""

from __future__ import annotations

from collections.abc import Mapping

from fs3.core.security.capability import READ
from fs3.model.method import Method
from fs3.model.principal import Right
from fs3.wire.methods import METHODS
from fs3.wire.storage_needs import NEEDS, NO_NEED, OF_SERVICES

_FORWARDED = "in the name of a target: from the node that has it, the present predecessor"
_RESYNC = "from the node of the present predecessor of a syncing target"
_OF_USERS, _EACH = "of users: a capability to", "each file or namespace that it names"
_OWN_KEY = "of the node itself, by its own key"
_TENANT = "of users: those of their tenant"
_WHILE_OFF = "refused while security is on"
_SHOWN_KEY = f"the key of a machine of the cluster, shown; {_WHILE_OFF}"
_PERMISSIONS = "modes, ACLs, groups and root squash, by the user that has authenticated"

CONDITIONS: Mapping[str, str] = {
    "Mgmtd.RegisterNode": _OWN_KEY,
    "Mgmtd.Heartbeat": _OWN_KEY,
    "Mgmtd.JoinCluster": f"a token for machines, shown; {_WHILE_OFF}",
    "Mgmtd.JoinMachine": "a token for machines, proved",
    "Mgmtd.OpenNamespace": _TENANT,
    "Mgmtd.ListNamespaces": _TENANT,
    "Mgmtd.ClearNamespace": _TENANT,
    "Mgmtd.DeleteNamespace": _TENANT,
    "Mgmtd.GetNamespaceCapabilities": _TENANT,
    "Mgmtd.MakeToken": _SHOWN_KEY,
    "Mgmtd.RevokeToken": _SHOWN_KEY,
    "Mgmtd.RemoveMachine": _SHOWN_KEY,
    "Mgmtd.AskAsMachine": (
        "the key of a machine of the cluster, proved; for a certificate: of names and addresses it is seen at; for a token that "
        "allows others, or another authority: the machine that made the cluster, or a user"
    ),
    "Mgmtd.SetSettings": "its author is the user that has authenticated",
    "Meta.KeepAlive": "only what the client itself holds is kept",
    "Meta.CheckPage": "as root",
    "Meta.Inspect": "as root",
    "Meta.Repair": "as root",
    "Storage.Read": f"{_OF_USERS} read {_EACH}; for a repair: storage nodes only",
    "Storage.Update": f"{_OF_USERS} write {_EACH}; {_FORWARDED}",
    "Storage.ListChunks": f"with a fence: {_RESYNC}",
    "Storage.CompareRanges": _RESYNC,
    "Storage.MergeChannels": _RESYNC,
    "Storage.FinishResync": _RESYNC,
    "Storage.Push": _FORWARDED,
    "Storage.ShareTouches": "in the name of a target: from the node that has it",
    "Process.Authenticate": "a ticket",
    "Mgmtd.BeginLogin": "nothing, and it tells nothing: there is a challenge for everybody",
    "Mgmtd.Login": "a secret: a user's token, the key of a node or of a machine; or a TLS client certificate",
}
"""What a verb asks for besides the right, by its full name."""


def describe_rights(rights: int) -> str:
    """The bits, for people."""
    return " or ".join(right.name.lower().replace("_", " ") for right in Right if rights & right and right.name)


def condition_of(method: Method) -> str:
    """What a verb asks for besides the right; "" when that is all."""
    found = CONDITIONS.get(method.full_name)
    if found is not None:
        return found
    if (need := NEEDS.get(method)) is not None and need not in (NO_NEED, OF_SERVICES):
        return f"{_OF_USERS} {'read' if need.right == READ else 'write'} {_EACH}"
    return _PERMISSIONS if method.service.endswith(".Meta") else ""


def rights_table() -> str:
    """Verb by verb, in the order of their numbers."""
    rows = [
        f"| `{method.full_name}` | {describe_rights(method.rights)} | {condition_of(method)} |"
        for _, method in sorted(METHODS.items())
    ]
    return "\n".join(["| verb | who may call it | what is asked besides |", "|---|---|---|", *rows])
