"""The package as syntax trees: what the rules of this folder look at."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = ("base", "model", "core", "ports", "wire", "runtime", "drivers", "client", "services", "api", "cli")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def floor(self) -> str:
        """The folder under `fs3` it is in; "" for `fs3/__init__.py`."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def is_production(self) -> bool:
        """Runs at a user's: not a simulation, not a drill."""
        return self.floor in PRODUCTION or not self.floor


def module_name(path: Path) -> str:
    """`fs3/base/ids.py` → `fs3.base.ids`"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> tuple[Module, ...]:
    """Every module of fs3 that a person wrote."""
    paths = sorted(path for path in (ROOT / "fs3").rglob("*.py") if "pb" not in path.parts)
    gc.disable()  # Python 3.11 fails where a collection runs code within a parse (CPython's issue 106905)
    try:
        return tuple(Module(module_name(path), path, ast.parse(path.read_text(), str(path))) for path in paths)
    finally:
        gc.enable()


def classes() -> Iterator[tuple[Module, ast.ClassDef]]:
    """Every class, nested ones too."""
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                yield module, node


def functions() -> Iterator[tuple[Module, ast.ClassDef | None, FunctionNode]]:
    """Every function, with the class it is a method of."""
    for module in modules():
        owners = {
            id(child): node
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ClassDef)
            for child in node.body
            if isinstance(child, FunctionNode)
        }
        for node in ast.walk(module.tree):
            if isinstance(node, FunctionNode):
                yield module, owners.get(id(node)), node


def parameters(node: FunctionNode) -> list[ast.arg]:
    """All of them, `self` too."""
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
