"""What the distributed configuration of a role may say."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fs3.base.errors import error
from fs3.base.limits import config_bytes_max
from fs3.base.status import Code
from fs3.model.cluster import SetConfig
from fs3.model.routing import Role
from fs3.runtime.config import parse_config

Schemas = Mapping[Role, type[msgspec.Struct]]
"""The record each role's configuration must be. One with a method `check` is asked whether it makes sense (ValueError: no)."""


def check_config(schemas: Schemas, request: SetConfig) -> None:
    """Raises FS3Error CONFIG naming the key that the role's schema refuses, or a role without configuration; TOO_LARGE."""
    role = request.role.name.lower()
    schema = schemas.get(request.role)
    if schema is None:
        raise error(Code.CONFIG, f"role {role} has no distributed configuration")
    if len(request.toml.encode()) > config_bytes_max:
        raise error(Code.TOO_LARGE, f"a configuration has at most {config_bytes_max} bytes")
    source = f"configuration of role {role}"
    parsed = parse_config(schema, request.toml, source)
    check = getattr(parsed, "check", None)
    if check is not None:
        try:
            check()
        except ValueError as wrong:
            raise error(Code.CONFIG, f"{source}: {wrong}") from wrong
