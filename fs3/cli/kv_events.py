"""`fs3 kv events`: what happens to the pages of a namespace, a line each."""

from __future__ import annotations

import json
import sys
from typing import Any

from fs3.api.client import Client
from fs3.api.kvcache import CacheEvent, KVCache


def event_document(event: CacheEvent, token: str) -> dict[str, Any]:
    """An event for programs. `token`: where a stream goes on behind it."""
    return {
        "change": event.change.value,
        "key": event.key.decode(errors="surrogateescape") if event.key is not None else None,
        "key_hex": event.key.hex() if event.key is not None else None,
        "page_id": event.page_id.hex(),
        "bytes": event.length,
        "token": token,
    }


def describe_event(event: CacheEvent) -> str:
    """The same for people: the key as text where it is some, else as hexadecimal digits."""
    if not event.page_id:
        return event.change.value
    if event.key is None:
        return f"{event.change.value:<8} page {event.page_id.hex()}, whose key cannot be told"
    try:
        text = event.key.decode()
    except UnicodeDecodeError:
        text = ""
    return f"{event.change.value:<8} {text if text.isprintable() and text else '0x' + event.key.hex()}"


async def print_events(client: Client, name: str, since: str, count: int | None, *, as_json: bool) -> None:
    """Write events to standard output as they happen: `count` of them, or until Ctrl-C. `since`: a token to go on from; "": from
    now on. Raises NotFound for a namespace there is not, InvalidArgument for what is no token."""
    namespace = await KVCache.get_namespace(client, name)
    async with (
        await KVCache.of(client, namespace=name, page_bytes=namespace.page_bytes, replicas=namespace.replicas) as cache,
        cache.events(since) as events,
    ):
        told = 0
        while count is None or told < count:
            event = await anext(events)
            told += 1
            if as_json:
                sys.stdout.write(json.dumps(event_document(event, events.token)) + "\n")
            else:
                sys.stdout.write(describe_event(event) + "\n")
            sys.stdout.flush()
