"""Machines of a cluster: which may have nodes in it, and the tokens they join with.

A machine draws a key when it is set up and keeps it in its directory. With a token it joins: its name and the digest of its key
are stored, and from then on its nodes prove the key when they register. So a machine is known by its key, whatever its address
is; two machines of one name are told apart; and what was never admitted is refused. A token admits so many machines, until a
time, and the same machine as often as it asks: the answer may have been lost.

What certificates are for beyond where machines are seen is said on the machine that made the cluster, or by an administrator once
there is security: a machine that has joined could else have a certificate of any other.

A cluster that no `fs3 cluster init` made is not closed: it admits every node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from fs3.base.limits import machine_addresses_max, machine_key_bytes, nodes_max
from fs3.base.status import Code
from fs3.core.membership.ledger import Ledger
from fs3.core.membership.node_admission import RequestRejected
from fs3.model.cluster import RegisterNode
from fs3.model.machine import (
    AdmitMachine,
    CertificateAuthority,
    JoinAck,
    JoinCluster,
    JoinToken,
    Machine,
    MachineList,
    MachineProof,
    MakeToken,
    RemoveMachine,
    RevokeToken,
    SetAuthority,
)
from fs3.model.routing import Node, Role

tokens_max = 256
"""Tokens that are remembered. Those that are over are forgotten first."""
token_uses_max = 4096
"""Machines that may join with one token."""

MACHINE_NAME = "1 to 63 letters, digits, '.' and '-', the first a letter or a digit"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
_TOKEN = re.compile(r"fs3-([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{32})")
TOKEN_FORM = "fs3-CLUSTER-ID-SECRET, as `fs3 cluster token create` prints it"


def is_machine_name(name: str) -> bool:
    """It is `MACHINE_NAME`."""
    return _NAME.fullmatch(name) is not None


def digest_of(secret: bytes) -> bytes:
    """What is stored of a key or of the secret of a token."""
    return sha256(secret).digest()


def format_token(cluster: bytes, number: str, secret: str) -> str:
    """The token as a person gets it: the cluster, so that another one can say that it is not meant; its id; and the secret."""
    return f"fs3-{cluster.hex()[:8]}-{number}-{secret}"


def parse_join_token(text: str) -> tuple[str, str, bytes]:
    """(first digits of the cluster's id, id of the token, secret). Raises ValueError, which does not repeat the text."""
    parts = _TOKEN.fullmatch(text.strip())
    if parts is None:
        raise ValueError(f"this is no token: a token is {TOKEN_FORM}")
    return parts[1], parts[2], parts[3].encode()


def node_name(machine: str, role: Role, number: int = 1) -> str:
    """What a node of a machine is called: "h1-storage", "h1-storage-2"."""
    name = f"{machine}-{role.name.lower()}"
    return name if number == 1 else f"{name}-{number}"


def why_over(token: JoinToken, at_ms: int) -> str:
    """Why no machine joins with a token any more; "" when one may."""
    if token.revoked:
        return "was revoked"
    if token.expires_ms and at_ms >= token.expires_ms:
        return f"has expired {(at_ms - token.expires_ms) // 1000} s ago"
    if len(token.used_by) >= token.uses_max:
        times = "once" if token.uses_max == 1 else f"{token.uses_max} times"
        return f"was used {times} already, by {', '.join(token.used_by)}"
    return ""


def token_unknown(number: str) -> RequestRejected:
    """Refuses a token; a secret that is wrong in the same words."""
    return RequestRejected(Code.NOT_ADMITTED, f"token {number} is not known here, or its secret is wrong")


class Machines:
    """Part of the manager's machine; what it changes is in the ledger. Requests that cannot be granted raise RequestRejected."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._state = ledger.state

    @property
    def is_closed(self) -> bool:
        """Only nodes of machines that have joined are admitted."""
        return self._state.cluster.closed

    def list(self) -> MachineList:
        """All machines and tokens, by name and by age."""
        machines = sorted(self._state.machines.values(), key=lambda machine: machine.name)
        tokens = sorted(self._state.tokens.values(), key=lambda token: (token.made_ms, token.id))
        return MachineList(tuple(machines), tuple(tokens), self.is_closed)

    @property
    def authority(self) -> CertificateAuthority | None:
        """What certificates of machines are issued with; None: they are made by other means, or there are none."""
        return self._state.authority

    def check_node(self, event: RegisterNode) -> None:
        """RequestRejected unless the node is one of a machine that has joined."""
        if not self.is_closed or event.is_proved:
            return
        name, proof = self._state.cluster.name, event.proof
        if proof is None:
            told = f"node {event.name!r} is of no machine that has joined cluster {name!r}: run `fs3 cluster join` where it runs"
            raise RequestRejected(Code.NOT_ADMITTED, told)
        self.check_proof(proof)
        role = event.role.name.lower()
        if not re.fullmatch(rf"{re.escape(proof.machine)}-{role}(-[0-9]+)?", event.name):
            wanted = node_name(proof.machine, event.role)
            told = f"{event.name!r} is no {role} node of machine {proof.machine!r}: those are called {wanted!r}, {wanted}-2 …"
            raise RequestRejected(Code.NOT_ADMITTED, told)

    def check_proof(self, proof: MachineProof) -> None:
        """RequestRejected unless it is one of a machine that has joined."""
        known = self._state.machines.get(proof.machine)
        if known is None:
            told = (
                f"machine {proof.machine!r} has not joined cluster {self._state.cluster.name!r}, or was removed from it: "
                "`fs3 cluster join` with a new token"
            )
            raise RequestRejected(Code.NOT_ADMITTED, told)
        if known.key_digest != digest_of(proof.key):
            told = (
                f"machine {proof.machine!r} of cluster {self._state.cluster.name!r} is another one: this has a key of its own. "
                "Two machines have this name, or its directory was made anew"
            )
            raise RequestRejected(Code.NOT_ADMITTED, told)

    def join(self, event: JoinCluster) -> JoinAck:
        """Admit a machine that shows its token and its key."""
        self.check_closed()
        if len(event.key) != machine_key_bytes:
            raise RequestRejected(Code.INVALID, f"a machine's key has {machine_key_bytes} bytes, not {len(event.key)}")
        return self._admit(
            self._find_token(event.token), AdmitMachine("", event.machine, digest_of(event.key), at_ms=event.at_ms)
        )

    def admit(self, event: AdmitMachine) -> JoinAck:
        """Admit a machine that has proved its token."""
        return self._admit(self._find_proved(event), event)

    def check_admission(self, event: AdmitMachine) -> None:
        """RequestRejected unless `admit` would admit it."""
        self._has_joined(self._find_proved(event), event)

    def _find_proved(self, event: AdmitMachine) -> JoinToken:
        self.check_closed()
        token = self._state.tokens.get(event.token_id)
        if token is None:
            raise token_unknown(event.token_id)
        return token

    def check_closed(self) -> None:
        """RequestRejected where no machine has to join."""
        if not self.is_closed:
            told = f"cluster {self._state.cluster.name!r} admits every node, there is nothing to join"
            raise RequestRejected(Code.UNSUPPORTED, told)

    def allowed_for(self, machine: str, number: str = "", at_ms: int = 0) -> Sequence[str]:
        """Names and addresses that a certificate of a machine may be for, wherever the machine is seen: those that it has joined
        with, and that the token of this id allows. A token that is over still allows them to a machine that has joined with it,
        unless it was revoked. `at_ms`: time of day."""
        token, known = self._state.tokens.get(number), self._state.machines.get(machine)
        joined_with = known.addresses if known is not None else ()
        if token is None:
            return joined_with
        was_used = known is not None and known.token_id == token.id and not token.revoked
        return (*token.addresses, *joined_with) if was_used or not why_over(token, at_ms) else joined_with

    def _admit(self, token: JoinToken, event: AdmitMachine) -> JoinAck:
        cluster = self._state.cluster
        if not self._has_joined(token, event):
            self._ledger.put_token(msgspec.structs.replace(token, used_by=(*token.used_by, event.machine)))
            self._ledger.put_machine(Machine(event.machine, event.key_digest, event.at_ms, token.id, event.addresses))
        return JoinAck(cluster.id, cluster.name)

    def _has_joined(self, token: JoinToken, event: AdmitMachine) -> bool:
        """Whether it has joined already and asks again, because the answer was lost. Raises RequestRejected."""
        if not is_machine_name(event.machine):
            raise RequestRejected(Code.INVALID, f"machine {event.machine!r}: a name has {MACHINE_NAME}")
        known = self._state.machines.get(event.machine)
        if known is not None and known.key_digest == event.key_digest:
            return True
        if known is not None:
            told = (
                f"cluster {self._state.cluster.name!r} has a machine {event.machine!r} already, with another key: give this one "
                f"another name, or take that one out with `fs3 cluster remove {event.machine}`"
            )
            raise RequestRejected(Code.EXISTS, told)
        if over := why_over(token, event.at_ms):
            raise RequestRejected(Code.NOT_ADMITTED, f"token {token.id} {over}: make another with `fs3 cluster token create`")
        if len(self._state.machines) >= nodes_max:
            raise RequestRejected(Code.TOO_LARGE, f"the cluster has {nodes_max} machines, the most it can have")
        return False

    def _find_token(self, text: str) -> JoinToken:
        try:
            cluster, number, secret = parse_join_token(text)
        except ValueError as wrong:
            raise RequestRejected(Code.NOT_ADMITTED, str(wrong)) from None
        own = self._state.cluster
        if cluster != own.id.hex()[:8]:
            told = f"the token is of cluster {cluster}…, this is {own.id.hex()[:8]}… ({own.name})"
            raise RequestRejected(Code.WRONG_CLUSTER, told)
        token = self._state.tokens.get(number)
        if token is None or token.digest != digest_of(secret):
            raise token_unknown(number)
        return token

    def make_token(self, event: MakeToken) -> JoinToken:
        """Remember a token."""
        self.check_proof(event.proof)
        if not 1 <= event.uses_max <= token_uses_max:
            raise RequestRejected(Code.INVALID, f"uses is {event.uses_max}: 1 to {token_uses_max} machines join with one token")
        if len(event.addresses) > machine_addresses_max:
            raise RequestRejected(
                Code.INVALID, f"{len(event.addresses)} addresses, at most {machine_addresses_max} for one token"
            )
        if event.addresses:
            self._check_vouches(event, "makes tokens that allow addresses")
        known = self._state.tokens.get(event.id)
        if known is not None:
            if known.digest != event.digest:
                raise RequestRejected(Code.EXISTS, f"there is another token {event.id}")
            return known  # it asks again
        self._forget_tokens(event.at_ms)
        expires = event.at_ms + event.lifetime_ms if event.lifetime_ms else 0
        token = JoinToken(event.id, event.digest, event.uses_max, expires, event.at_ms, addresses=event.addresses)
        self._ledger.put_token(token)
        return token

    def _forget_tokens(self, at_ms: int) -> None:
        """Make room for one more token."""
        if len(self._state.tokens) < tokens_max:
            return
        over = [token for token in self._state.tokens.values() if why_over(token, at_ms)]
        if not over:
            told = f"there are {tokens_max} tokens, the most there can be: `fs3 cluster token revoke` those that are not needed"
            raise RequestRejected(Code.TOO_LARGE, told)
        self._ledger.remove_token(min(over, key=lambda token: token.made_ms).id)

    def revoke_token(self, event: RevokeToken) -> JoinToken:
        """No machine joins with it any more."""
        self.check_proof(event.proof)
        token = self._state.tokens.get(event.id)
        if token is None:
            raise RequestRejected(Code.NOT_FOUND, f"there is no token {event.id!r}; `fs3 cluster machines` lists them")
        if not token.revoked:
            token = msgspec.structs.replace(token, revoked=True)
            self._ledger.put_token(token)
        return token

    def remove(self, event: RemoveMachine) -> int:
        """A machine belongs to the cluster no more; 0. Refused while one of its nodes is alive, or holds targets and the machine
        is not to join again."""
        self.check_proof(event.proof)
        if event.machine not in self._state.machines:
            raise RequestRejected(Code.NOT_FOUND, f"there is no machine {event.machine!r}; `fs3 cluster machines` lists them")
        nodes = self.nodes_of(event.machine)
        holding = self._find_holders(nodes)
        if holding and not event.comes_back:
            told = (
                f"machine {event.machine!r} has nodes that hold targets: {', '.join(holding)}. `fs3 admin drain {holding[0]}` "
                f"moves them away while it runs, `fs3 admin forget {holding[0]}` goes on without what it has; with --comes-back "
                "it is removed to join again with the disks it has"
            )
            raise RequestRejected(Code.BUSY, told)
        if alive := sorted(node.name for node in nodes if node.alive):
            told = f"machine {event.machine!r} has nodes that are alive: {', '.join(alive)}. Stop it first"
            raise RequestRejected(Code.BUSY, told)
        self._ledger.remove_machine(event.machine)
        return 0

    def set_authority(self, event: SetAuthority) -> int:
        """Have certificates of machines issued with an authority; 0."""
        self.check_proof(event.proof)
        self._check_vouches(event, "says with which authority certificates are issued")
        if event.authority != self._state.authority:
            self._ledger.put_authority(event.authority)
        return 0

    def _check_vouches(self, event: MakeToken | SetAuthority, what: str) -> None:
        """RequestRejected unless others' certificates are for the asker to decide."""
        if event.is_by_admin or not self._state.machines[event.proof.machine].token_id:
            return
        first = next((machine.name for machine in self._state.machines.values() if not machine.token_id), "")
        told = (
            f"machine {event.proof.machine!r} has joined with a token: only the machine that made the cluster "
            f"({first or 'it was removed'}) {what}, or, once security is on, an administrator: run it there, or with the "
            "token of an administrator in FS3_TOKEN_FILE"
        )
        raise RequestRejected(Code.PERMISSION, told)

    def nodes_of(self, machine: str) -> Sequence[Node]:
        """The nodes that are called as those of a machine."""
        names = {node_name(machine, role) for role in Role}
        return [node for node in self._state.nodes.values() if re.sub(r"-[0-9]+$", "", node.name) in names]

    def _find_holders(self, nodes: Iterable[Node]) -> Sequence[str]:
        """Names of the nodes that have a target of a chain."""
        used = {slot.node for chain in self._state.chains.values() for slot in chain.slots}
        return sorted(node.name for node in nodes if node.id in used)
