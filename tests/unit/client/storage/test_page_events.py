"""Listening to nodes that fail: nothing of it is left to the log when the listener goes."""

import asyncio
import gc
from types import SimpleNamespace

from fs3.base.errors import FS3Error
from fs3.base.ids import ChainId, NodeId
from fs3.base.status import Code
from fs3.client.storage.page_events import PageEventReader
from fs3.core.files.replica_selector import Candidates


class Router:
    """One node, whose answers the test gives."""

    def __init__(self):
        self.asked = []

    def candidates(self, chain):
        return Candidates(1, (NodeId(1),), (0,))

    def channel(self, node):
        return SimpleNamespace(start=self._start)

    def _start(self, method, message, timeout_ns):
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]

    def on_failure(self, node, failure):
        raise AssertionError(failure)


async def listen(router):
    reader = PageEventReader(router, SimpleNamespace(now=lambda: 0), 1, lambda: [ChainId(1)], {})
    waiting = asyncio.get_running_loop().create_task(reader.next(10**9))
    await asyncio.sleep(0)
    assert len(router.asked) == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return reader


async def test_a_question_that_fails_after_its_listener_has_gone_is_not_logged():
    unhandled = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
    for is_closed in (False, True):
        router = Router()
        reader = await listen(router)
        router.asked.pop().set_exception(FS3Error(Code.DISCONNECTED, "the node has gone"))
        if is_closed:
            reader.close()
        await asyncio.sleep(0)
        del reader, router
        gc.collect()
    assert unhandled == []


async def test_closing_ends_what_is_asked():
    router = Router()
    reader = await listen(router)
    reader.close()
    assert router.asked[0].cancelled()
