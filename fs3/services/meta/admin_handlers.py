"""Handlers of what administrators ask: pages of a check, facts about inodes, repairs."""

from __future__ import annotations

import logging
from typing import Any

from fs3.base.errors import FS3Error
from fs3.base.ids import ROOT_INODE
from fs3.base.limits import check_rows_per_page
from fs3.base.status import Code
from fs3.core.meta.context import OpContext
from fs3.core.meta.errors import MetaError
from fs3.core.meta.fsck.pages import check_page, find_readable_inode, inspect_inodes
from fs3.core.meta.fsck.problems import describe
from fs3.core.meta.fsck.repair import repair
from fs3.core.txn import ReadTxn, Txn
from fs3.model.check import CheckPage, Inspection, RepairResult
from fs3.ports.kv import KV
from fs3.ports.rpc import Bindings, Call
from fs3.services.meta.handlers import VerbHandlers
from fs3.wire.check import fill_inspection, fill_page, inodes_from_pb, page_request_from_pb, problem_from_pb
from fs3.wire.methods import META
from fs3.wire.pb import meta_pb2 as pb

log = logging.getLogger("fs3.meta")


class AdminHandlers:
    """CheckPage, Inspect and Repair. They show and change anybody's files: root's and the root directory's owner's."""

    def __init__(self, kv: KV, handlers: VerbHandlers) -> None:
        self._kv = kv
        self._handlers = handlers

    def bindings(self) -> Bindings:
        """Method -> handler."""
        return {META.CheckPage: self._check_page, META.Inspect: self._inspect, META.Repair: self._repair}

    def _check_page(self, call: Call) -> None:
        try:
            ctx = self._handlers.context(call.request.caller, False)
            table, begin = page_request_from_pb(call.request)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return

        async def op(txn: ReadTxn) -> CheckPage:
            await _require_administrator(txn, ctx)
            return await check_page(txn, table, begin, check_rows_per_page)

        def done(page: CheckPage | None, why: BaseException | None) -> None:
            if why is not None or page is None:
                self._handlers.fail(call, ctx, why, "")
                return
            reply = pb.CheckPageReply()
            fill_page(reply, page)
            call.reply(reply)

        self._kv.submit_read(op, done)

    def _inspect(self, call: Call) -> None:
        try:
            ctx = self._handlers.context(call.request.caller, False)
            inodes = inodes_from_pb(call.request)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return

        async def op(txn: ReadTxn) -> Inspection:
            await _require_administrator(txn, ctx)
            return await inspect_inodes(txn, inodes)

        def done(inspection: Inspection | None, why: BaseException | None) -> None:
            if why is not None or inspection is None:
                self._handlers.fail(call, ctx, why, "")
                return
            reply = pb.InspectReply()
            fill_inspection(reply, inspection)
            call.reply(reply)

        self._kv.submit_read(op, done)

    def _repair(self, call: Call) -> None:
        try:
            ctx = self._handlers.context(call.request.caller, True)
            problem = problem_from_pb(call.request.problem)
        except FS3Error as why:
            call.fail(why.code, why.strerror or "")
            return

        async def op(txn: Txn) -> RepairResult:
            await _require_administrator(txn, ctx)
            return await repair(txn, ctx, problem)

        def done(repaired: RepairResult | None, why: BaseException | None) -> None:
            if why is not None or repaired is None:
                self._handlers.fail(call, ctx, why, "")
                return
            if repaired.done:
                log.warning("repaired for user %d: %s; %s", ctx.user.uid, describe(problem), repaired.what)
            call.reply(pb.RepairReply(done=repaired.done, what=repaired.what))

        self._kv.submit(op, done)


async def _require_administrator(txn: Any, ctx: OpContext) -> None:
    """Raises MetaError PERMISSION. Where there is no root directory, only root is left."""
    if ctx.user.uid == 0:
        return
    root = await find_readable_inode(txn, ROOT_INODE)
    if root is None or root.uid != ctx.user.uid:
        raise MetaError(Code.PERMISSION, "only root and the owner of the root directory may administer the namespace")
