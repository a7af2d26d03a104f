"""What the last release says and stores, recorded in `proto/released`, to hold today's code to it.

    release.json   which release it is: software, level, and the commit it was made of
    wire.txt       every field, enum value and method, one a line
    rows.jsonl     every record that is stored, as the bytes that release stores for values that are all different

`python -m tests.release_record --write COMMIT` records the tree it runs in as the release that was made of a commit.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

import fs3
from fs3.base.ids import ChunkId, ClientId
from fs3.core.kvcache.pages import PageKey, front, parse_header
from fs3.core.meta import keys
from fs3.drivers.chunks import rows as chunk_rows
from fs3.drivers.chunks.sizes import INLINE
from fs3.drivers.os import data_directories
from fs3.model.chunk import Tag, UpdateKind
from fs3.wire.methods import SERVICES
from fs3.wire.pb import common_pb2

RELEASED = Path(__file__).parents[1] / "proto" / "released"

NEVER_STORED = {
    "Delta": "answers GetRouting", "DirectoryPart": "answers Inspect", "InodeFacts": "answers Inspect",
    "Inspection": "answers Inspect", "RepairResult": "answers Repair", "ChunkRow": "answers ListChunks",
    "Tag": "packed by hand, in `IndexRow`",
}  # fmt: skip
"""Record that is written as an array -> where it goes instead."""


def _list_stored() -> dict[str, tuple[type[Any], str]]:
    """Every record below the client that is written as an array, so that a new one is not forgotten; and files in JSON."""
    for module in pkgutil.walk_packages(fs3.__path__, "fs3."):
        if module.name.split(".")[1] in ("base", "model", "core", "drivers", "services"):
            importlib.import_module(module.name)
    found = {
        kind.__name__.strip("_"): (kind, "msgpack")
        for kind in sorted(_subclasses(msgspec.Struct), key=lambda kind: kind.__qualname__)
        if kind.__struct_config__.array_like and kind.__module__.split(".")[:2] in _FLOORS
    }
    files = {kind.__name__.strip("_"): (kind, "json") for kind in (data_directories._NodeFile, data_directories._TargetFile)}
    return {name: each for name, each in found.items() if name not in NEVER_STORED} | files


_FLOORS = [["fs3", floor] for floor in ("base", "model", "core", "drivers", "services")]


def _subclasses(kind: type[Any]) -> set[type[Any]]:
    return {kind, *(each for below in kind.__subclasses__() for each in _subclasses(below))}


STORED = _list_stored()
"""Name -> record that is stored whole, or part of one, and how."""


class Release(NamedTuple):
    """What release.json says."""

    software: str
    level: int
    commit: str


def read_release() -> Release:
    """The release that is recorded."""
    return Release(**json.loads((RELEASED / "release.json").read_text()))


# --- the wire --------------------------------------------------------------------------------------------------------

Wire = dict[str, str]
""" "fs3.v1.Node 1" -> "uint32 id", and alike for enum values, reserved numbers and methods."""

_TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower() for name in vars(FieldDescriptor) if name[:5] == "TYPE_"
}


def describe_wire() -> Wire:
    """What today's descriptors say."""
    found: Wire = {}
    for service in SERVICES:
        for method in service.methods:
            does = [f"{method.id:#06x}", method.request.DESCRIPTOR.full_name, method.reply.DESCRIPTOR.full_name]
            does += ["streamed"] if method.streaming else []
            does += ["repeatable"] if method.repeatable else []
            found[f"{service.full_name}.{method.name}"] = " ".join([*does, f"payload={method.payload.name.lower()}"])
    files = {common_pb2.DESCRIPTOR, *(service.descriptor.file for service in SERVICES)}
    for file in files:
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        for message in proto.message_type:
            found.update(_describe_message(f"{proto.package}.{message.name}", message))
        for enum in proto.enum_type:
            found.update(_describe_enum(f"{proto.package}.{enum.name}", enum))
        for field in proto.extension:
            found[f"{proto.package} extension {field.number}"] = f"{_TYPES[field.type]} {field.name}"
    return {key: found[key] for key in sorted(found, key=_order)}


def _order(key: str) -> tuple[str, int, str]:
    name, _, number = key.partition(" ")
    return name, int(number) if number.isdecimal() else 0, number


def _describe_message(name: str, message: DescriptorProto) -> Iterator[tuple[str, str]]:
    for field in message.field:
        kind = field.type_name.lstrip(".") or _TYPES[field.type]
        label = "repeated " if field.label == field.LABEL_REPEATED else "optional " if field.proto3_optional else ""
        one_of = ""
        if field.HasField("oneof_index") and not field.proto3_optional:
            one_of = f" oneof {message.oneof_decl[field.oneof_index].name}"
        yield f"{name} {field.number}", f"{label}{kind} {field.name}{one_of}"
    for numbers in message.reserved_range:
        for number in range(numbers.start, numbers.end):
            yield f"{name} {number}", "reserved"
    for nested in message.nested_type:
        yield from _describe_message(f"{name}.{nested.name}", nested)
    for enum in message.enum_type:
        yield from _describe_enum(f"{name}.{enum.name}", enum)


def _describe_enum(name: str, enum: EnumDescriptorProto) -> Iterator[tuple[str, str]]:
    for value in enum.value:
        yield f"{name} {value.number}", f"value {value.name}"
    for numbers in enum.reserved_range:
        for number in range(numbers.start, numbers.end + 1):
            yield f"{name} {number}", "reserved"


def read_wire() -> Wire:
    """What the release said."""
    return dict(line.split(": ", 1) for line in (RELEASED / "wire.txt").read_text().splitlines())


def find_breaks(was: Wire, now: Wire) -> list[str]:
    """What of `now` a process that speaks `was` would not understand, or would understand wrongly."""
    found = []
    for key, meant in was.items():
        means = now.get(key)
        if means == meant:
            continue
        is_method = " " not in key
        if means is None:
            found.append(f"{key} ({meant}) is gone" + ("" if is_method else " and its number is not reserved"))
        elif is_method or means != "reserved":
            found.append(f"{key} was {meant!r}, is {means!r}")
    ids = {meant.split()[0]: key for key, meant in was.items() if " " not in key}
    for key, means in now.items():
        if " " not in key and ids.get(means.split()[0], key) != key:
            found.append(f"{key} has the number of {ids[means.split()[0]]}")
    return found


# --- rows ------------------------------------------------------------------------------------------------------------


class StoredRow(NamedTuple):
    """One recorded row."""

    record: str
    fields: list[str]
    """Of the record, in the order they are stored; empty for what is packed by hand."""
    stored: str
    """Hexadecimal."""
    values: Any
    """What it must be read as, as plain data."""


class _Sampler:
    """Draws values that are all different, so that two fields that changed places are noticed."""

    def __init__(self) -> None:
        self._count = 0

    def draw(self, kind: Any) -> Any:
        """A value of a `msgspec.inspect` type."""
        self._count += 1
        match kind:
            case msgspec.inspect.StructType():
                return kind.cls(**{field.name: self.draw(field.type) for field in kind.fields})
            case msgspec.inspect.EnumType():
                return list(kind.cls)[-1]
            case msgspec.inspect.BoolType():
                return True
            case msgspec.inspect.IntType():
                return self._count
            case msgspec.inspect.StrType():
                return f"{self._count:04x}"
            case msgspec.inspect.BytesType() | msgspec.inspect.MemoryViewType():
                return f"{self._count:016x}".encode()
            case msgspec.inspect.RawType():
                return msgspec.Raw(msgspec.msgpack.encode(self._count))
            case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
                found = [self.draw(kind.item_type), self.draw(kind.item_type)]
                return tuple(found) if isinstance(kind, msgspec.inspect.VarTupleType) else found
            case msgspec.inspect.TupleType():
                return tuple(self.draw(each) for each in kind.item_types)
            case msgspec.inspect.UnionType():
                return self.draw(next(each for each in kind.types if not isinstance(each, msgspec.inspect.NoneType)))
            case msgspec.inspect.DictType():
                return {self.draw(kind.key_type): self.draw(kind.value_type)}
        raise AssertionError(f"no sample of {kind}")


def plain(value: Any) -> Any:
    """A record as plain data that JSON can hold."""
    if isinstance(value, msgspec.Raw):
        return {"raw": bytes(value).hex()}
    if isinstance(value, msgspec.Struct):
        return [plain(getattr(value, name)) for name in value.__struct_fields__]
    if isinstance(value, bytes | memoryview):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, Mapping):
        return [[plain(key), plain(each)] for key, each in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, bool | str) else int(value)


def sample_rows() -> list[StoredRow]:
    """Every record that is stored, as this tree stores it."""
    found = []
    for name, (kind, packing) in STORED.items():
        value = _Sampler().draw(msgspec.inspect.type_info(kind))
        packed = getattr(msgspec, packing).encode(value)
        found.append(StoredRow(name, list(kind.__struct_fields__), packed.hex(), plain(value)))
    return found + [StoredRow(name, [], packed.hex(), value) for name, (packed, value) in _packed_by_hand().items()]


def read_again(row: StoredRow) -> Any:
    """What today's code reads a recorded row as, as plain data."""
    stored = bytes.fromhex(row.stored)
    if row.fields:
        kind, packing = STORED[row.record]
        return plain(getattr(msgspec, packing).decode(stored, type=kind))
    return _READ[row.record.partition(" ")[0]](stored)


def extends(now: Any, was: Any) -> bool:
    """What is read now is what was stored then, with nothing but more fields at the ends of records."""
    if isinstance(was, list) and isinstance(now, list):
        return len(now) >= len(was) and all(extends(*pair) for pair in zip(now, was, strict=False))
    return bool(now == was)


class _NoFiles:
    """In place of the block files of a store."""

    def locate(self, place: int) -> tuple[int, int]:
        return -1, 0


_CHUNK = ChunkId(bytes(range(16)))
_TAG = Tag(ClientId(bytes(range(16, 32))), 33, 34)
_INODE_KEY_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "inode_key": (35,), "dirent_key": (36, b"name"), "content_key": (37,), "session_key": (38, 39), "trim_key": (40,),
    "data_key": (41,), "inode_locks_key": (42,), "client_locks_key": (_TAG.client,), "xattr_key": (43, b"user.name"),
    "client_key": (_TAG.client,), "pruned_key": (44, 45), "request_key": (_TAG.client, 46), "garbage_key": (1, 47, 48),
}  # fmt: skip


def _packed_by_hand() -> dict[str, tuple[bytes, Any]]:
    files: Any = _NoFiles()
    sums = chunk_rows.pack_sums([49, 50])
    committed = chunk_rows.Version(51, 52, 100_000, (1 << 32) | 53, sums, None, files)
    pending = chunk_rows.Version(54, 55, 4, INLINE, chunk_rows.pack_sums([56]), b"data", files)
    whole = chunk_rows.IndexRow(committed, pending, UpdateKind.WRITE, _TAG)
    page = PageKey(_CHUNK, bytes(range(57, 57 + 32)), b"key")
    found = {
        "IndexRow": chunk_rows.encode(_CHUNK, whole),
        "IndexRow inline": chunk_rows.encode(_CHUNK, chunk_rows.IndexRow(pending, None, UpdateKind.WRITE, None)),
        "PageFront": front(page, 58),
    }
    made: dict[str, tuple[bytes, Any]] = {name: (packed, _READ[name.partition(" ")[0]](packed)) for name, packed in found.items()}
    for name, arguments in _INODE_KEY_ARGUMENTS.items():
        made[f"Key {name}"] = getattr(keys, name)(*arguments), None
    return made


def key_now(row: StoredRow) -> str:
    """The key that today's code makes in place of a recorded one, hexadecimal."""
    name = row.record.removeprefix("Key ")
    return bytes(getattr(keys, name)(*_INODE_KEY_ARGUMENTS[name])).hex()


def _read_index_row(packed: bytes) -> Any:
    files: Any = _NoFiles()
    row = chunk_rows.decode(_CHUNK, packed, files)
    versions = [
        [each.version, each.chain_version, each.length, each.place, plain(each.sums), plain(each.inline)]
        for each in (row.committed, row.pending)
        if each is not None
    ]
    return [*versions, int(row.kind), plain(row.tag)]


def _read_page_front(packed: bytes) -> Any:
    header = parse_header(packed)
    assert header is not None
    return plain(tuple(header))


_READ = {"IndexRow": _read_index_row, "PageFront": _read_page_front}


def read_rows() -> list[StoredRow]:
    """What the release stored."""
    return [StoredRow(**json.loads(line)) for line in (RELEASED / "rows.jsonl").read_text().splitlines()]


# --- recording -------------------------------------------------------------------------------------------------------


def write(release: Release) -> None:
    """Record this tree."""
    RELEASED.mkdir(exist_ok=True)
    (RELEASED / "release.json").write_text(json.dumps(release._asdict(), indent=2) + "\n")
    (RELEASED / "wire.txt").write_text("".join(f"{key}: {means}\n" for key, means in describe_wire().items()))
    lines = (json.dumps(row._asdict(), separators=(",", ":")) for row in sample_rows())
    (RELEASED / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))


def main() -> None:
    """The command line."""
    from fs3.base import version

    parser = argparse.ArgumentParser(prog="python -m tests.release_record", description=__doc__)
    parser.add_argument("--write", metavar="COMMIT", required=True)
    commit = parser.parse_args().write
    write(Release(version.__version__, getattr(version, "LEVEL", 1), commit))
    sys.stdout.write(f"{RELEASED} holds the release of {commit}\n")


if __name__ == "__main__":
    main()
