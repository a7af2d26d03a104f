"""Names: one word per thing, in the field's language (docs/glossary.md)."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict

from tests.tidy.ratchet import hold
from tests.tidy.source import ROOT, classes, functions, modules, parameters

SAME_NAME: dict[str, str] = {}
"""Class name → why two floors may have one of it."""


def _retired() -> dict[str, str]:
    """Retired word → its replacement, from the second table of docs/glossary.md."""
    text = (ROOT / "docs" / "glossary.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \|$", text.split("## Retired words", 1)[1], re.MULTILINE)
    return dict(rows)


def _identifiers() -> dict[str, set[str]]:
    """Every name that is defined → the modules that define it."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name].add(module.name)
            elif isinstance(node, ast.arg):
                found[node.arg].add(module.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found[node.id].add(module.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found[node.attr].add(module.name)
        found[module.name.rpartition(".")[2]].add(module.name)
    return found


def words(identifier: str) -> set[str]:
    """`_take_let` → {take, let, take_let}; `SilenceWatch` → {silence, watch, silence_watch}"""
    parts = [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", identifier)]
    return {"_".join(parts[first:last]) for first in range(len(parts)) for last in range(first + 1, len(parts) + 1)}


def test_words_of_an_identifier() -> None:
    assert {"take", "let", "take_let"} == words("_take_let")
    assert "silence_watch" in words("SilenceWatch")


def test_retired_words_do_not_return() -> None:
    retired = _retired()
    assert len(retired) > 40
    problems = [
        f"{identifier} in {', '.join(sorted(where))}: say {retired[word]}"
        for identifier, where in sorted(_identifiers().items())
        for word in sorted(words(identifier) & retired.keys())
    ]
    assert not problems, "\n".join(problems)


def test_class_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module, node in classes():
        places[node.name].append(module.name)
    doubled = {name: where for name, where in places.items() if len(where) > 1}
    assert not {name: where for name, where in doubled.items() if name not in SAME_NAME}
    assert not SAME_NAME.keys() - doubled.keys(), "an exception nobody needs any more"
    assert len(SAME_NAME) <= 10


PREDICATE = re.compile(
    r"^_*(is|has|may|can|must|needs|was|does|should|will|would|are|owes|knows|wants)_|^_*(matches|contains|covers|owns|serves)"
)


def test_predicates_read_as_assertions() -> None:
    """A method that takes nothing and returns a bool is a question: it begins with `is_`, `has_` or the like."""
    counts: Counter[str] = Counter()
    for module, owner, node in functions():
        asks = node.returns is not None and ast.unparse(node.returns) == "bool" and len(parameters(node)) <= 1
        dunder = node.name.startswith("__")
        if owner is not None and asks and not dunder and isinstance(node, ast.FunctionDef) and not PREDICATE.match(node.name):
            counts[module.name] += 1
    hold("predicates_without_verb", counts)


PARTICIPLE = re.compile(r"^_*[a-z]+(ed|ing)$")


def test_methods_are_verbs() -> None:
    """A method that is called, and not a property, is not named by a participle: `changed()` does what, to whom?"""
    counts: Counter[str] = Counter()
    for module, owner, node in functions():
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        is_property = bool(decorators & {"property", "cached_property", "functools.cached_property"})
        if (
            owner is not None
            and not is_property
            and PARTICIPLE.match(node.name)
            and node.name not in ("embed", "feed", "need", "bring", "ping")
        ):
            counts[module.name] += 1
    hold("participles", counts)


def test_docstrings_name_the_actor() -> None:
    """The client, the head, the manager; not *nobody, whoever, somebody*."""
    counts: Counter[str] = Counter()
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                counts[module.name] += len(re.findall(r"\b(?:nobody|whoever|somebody)\b", text, re.IGNORECASE))
    hold("vague_actors", +counts)


def test_callables_have_a_name() -> None:
    """Who calls this? A parameter that is a bare `Callable` does not say. Not more than one in a constructor."""
    counts: Counter[str] = Counter()
    for module, owner, node in functions():
        if not module.is_production:
            continue
        bare = [
            argument.arg
            for argument in parameters(node)
            if argument.annotation is not None and "Callable" in ast.unparse(argument.annotation)
        ]
        counts[module.name] += len(bare)
        if node.name == "__init__" and owner is not None:
            assert len(bare) <= 1, f"{module.name}.{owner.name} takes {bare}: a Protocol with named methods says who is called"
    hold("bare_callables", +counts)
    assert sum(counts.values()) <= 50
