"""Push calls: the bytes of an update that a predecessor sends ahead go to the target of their chain, or are refused here."""

from __future__ import annotations

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.ports.rpc import Call
from fs3.services.storage.forwarding.payloads import Payloads
from fs3.services.storage.forwarding.pushes import PushBuffer
from fs3.services.storage.target_map import TargetMap
from fs3.wire.storage_push import push_request_from_pb


class PushHandler:
    """Answers Push calls for the targets of one node."""

    def __init__(self, targets: TargetMap, payloads: Payloads) -> None:
        self._by_chain = targets.by_chain
        self._payloads = payloads

    def push(self, call: Call) -> None:
        """The handler of Push."""
        try:
            push = push_request_from_pb(call.request, call.payload)
            shell = self._by_chain.get(push.chain)
            if shell is None:
                raise error(Code.NO_SUCH_TARGET, f"no target of chain {push.chain} is here")
        except FS3Error as wrong:
            call.fail(wrong.code, wrong.strerror or "")
            return
        buffer = PushBuffer(call, self._payloads)
        shell.receive_push(push, buffer)
        buffer.drop()
