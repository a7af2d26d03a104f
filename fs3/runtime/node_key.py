"""The key of a node, in a file of its data directory that only its owner can read: drawn once, shown to nothing."""

from __future__ import annotations

import os
from pathlib import Path

from fs3.base.errors import FS3Error, error
from fs3.base.status import Code
from fs3.core.security.login import SECRET_BYTES
from fs3.runtime.durable_files import sync_directory
from fs3.runtime.token_sources import read_secret_file

NODE_KEY_FILE = "node.key"


def load_node_key(directory: Path) -> bytes:
    """The key of the node that has this data directory. FS3Error: NOT_FOUND; ACCESS when others can read it; CONFIG."""
    file = directory / NODE_KEY_FILE
    text = read_secret_file(file, "the key of the node")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != SECRET_BYTES:
        raise error(Code.CONFIG, f"this is no key of a node: it has {SECRET_BYTES} bytes in hexadecimal", str(file))
    return key


def ensure_node_key(directory: Path) -> bytes:
    """The same, drawn anew when there is none. FS3Error, also DISK when it cannot be written."""
    try:
        return load_node_key(directory)
    except FS3Error as problem:
        if problem.code is not Code.NOT_FOUND:
            raise
    file = directory / NODE_KEY_FILE
    key = os.urandom(SECRET_BYTES)
    # Under another name until it is whole: a process that is killed meanwhile leaves no half of a key.
    draft = file.with_name(f"{NODE_KEY_FILE}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, key.hex().encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(file)
        sync_directory(directory)
    except OSError as problem:
        raise error(Code.DISK, f"the key of the node cannot be written: {problem.strerror}", str(file)) from problem
    return key
