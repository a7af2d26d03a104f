"""`base/limits.py` holds what several parts share, or what is related to something else; all else stands beside its user."""

from __future__ import annotations

import ast
from collections import Counter

from tests.tidy.source import Module, modules


def _uses(module: Module) -> set[str]:
    names = {
        alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "fs3.base.limits"
        for alias in node.names
    }
    names |= {
        node.attr
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "limits"
    }
    return names


def test_a_limit_with_one_user_stands_beside_it() -> None:
    (limits,) = [module for module in modules() if module.name == "fs3.base.limits"]
    defined = [
        node.targets[0].id for node in limits.tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]
    mentioned = Counter(node.id for node in ast.walk(limits.tree) if isinstance(node, ast.Name))
    users = Counter(name for module in modules() for name in _uses(module) if module.is_production)
    alone = [name for name in defined if users[name] < 2 and mentioned[name] < 2]
    assert not alone, f"move these beside their user: {alone}"
