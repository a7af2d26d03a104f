"""Requests that an intruder sends: every verb of the binding table, filled with what it would like to have.

Made from the descriptors, so that a verb that is added is tried without anything being written here. What an intruder knows is
given by the names of fields, as they are called all over the .proto files.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from fs3.model.method import Method, PayloadSide
from fs3.wire.methods import METHODS

_DEPTH_MAX = 4
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}

Knowledge = Mapping[str, Any]
"""Name of a field -> its value: a number, a text, bytes as hexadecimal digits, or a list of numbers."""


class Crafter:
    """Makes requests with one source of chance, so that a run can be repeated."""

    def __init__(self, knowledge: Knowledge, seed: int) -> None:
        self._knowledge = knowledge
        self._chance = random.Random(seed)
        self._seq = seed << 20

    def requests(self) -> Iterator[tuple[Method, bytes, bytes]]:
        """Each verb once: the method, the message, the payload."""
        for _, method in sorted(METHODS.items()):
            yield self.request(method)

    def request(self, method: Method) -> tuple[Method, bytes, bytes]:
        """One: as empty as it can be, as full as it can be, or something between."""
        message = method.request()
        fullness = self._chance.choice((0.0, 0.5, 0.8, 1.0))
        self._fill(message, fullness, _DEPTH_MAX)
        payload = b""
        if method.payload is PayloadSide.REQUEST and fullness:
            payload = bytes(sum(getattr(message, "lengths", (16,))) or 16)
        return method, message.SerializeToString(), payload

    def _fill(self, message: Any, fullness: float, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            # What it is about is always said; what makes it a special kind of request, now and then.
            is_subject = field.name in self._knowledge and (field.is_repeated or field.type != FieldDescriptor.TYPE_UINT32)
            if field.name == "payload" or self._chance.random() > (1.0 if is_subject and fullness else fullness):
                continue
            if field.message_type is not None:
                if depth and not field.message_type.GetOptions().map_entry:
                    inner = getattr(message, field.name)
                    self._fill(inner.add() if field.is_repeated else inner, fullness, depth - 1)
                    if not field.is_repeated:
                        inner.SetInParent()
                continue
            value = self._value(field)
            if field.is_repeated:
                getattr(message, field.name).extend(value if isinstance(value, list) else [value])
            else:
                setattr(message, field.name, value[0] if isinstance(value, list) else value)

    def _value(self, field: Any) -> Any:
        """Of a field that is no message; a list only where the intruder knows one."""
        if field.name == "request_seq":
            self._seq += 1
            return self._seq
        known = self._knowledge.get(field.name)
        if field.type == FieldDescriptor.TYPE_BYTES:
            if not isinstance(known, str):
                return self._chance.randbytes(16)
            return bytes.fromhex(known) if _is_hexadecimal(known) else known.encode()
        if field.type == FieldDescriptor.TYPE_STRING:
            return known if isinstance(known, str) else "/"
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self._chance.choice(field.enum_type.values).number
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._chance.random() < 0.5
        if field.cpp_type in _INTEGERS:
            return known if isinstance(known, int | list) else self._chance.choice((0, 1, 2, 7))
        return 0


def _is_hexadecimal(text: str) -> bool:
    try:
        return bool(bytes.fromhex(text))
    except ValueError:
        return False
