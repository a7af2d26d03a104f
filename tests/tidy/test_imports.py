"""Imports have no circle, also counting those for type checkers only and those inside functions."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.tidy.source import Module, modules


def _imports(module: Module, known: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= inner
            if node.module in known and len(inner) < len(node.names):
                found.add(node.module)
    return found - {module.name}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        on_stack.add(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in on_stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            component = []
            while True:
                member = stack.pop()
                on_stack.discard(member)
                component.append(member)
                if member == name:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_modules_import_each_other_in_one_direction() -> None:
    known = {module.name for module in modules()}
    graph = defaultdict(set, {module.name: _imports(module, known) for module in modules()})
    assert not circles(graph)


def test_only_drills_import_the_simulator() -> None:
    known = {module.name for module in modules()}
    for module in modules():
        if module.floor not in ("sim", "drill"):
            upward = {name for name in _imports(module, known) if name.startswith(("fs3.sim", "fs3.drill"))}
            assert not upward, f"{module.name} imports {sorted(upward)}: what users run knows nothing of the simulator"
