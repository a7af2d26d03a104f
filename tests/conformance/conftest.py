"""How the conformance suites, which live in the package, are run here."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

# Their assertions are to explain themselves as those of other tests do.
pytest.register_assert_rewrite("fs3.sim.conformance")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A test class that says `on_uvloop = True` runs on the loop that servers run on."""
    if getattr(getattr(item, "cls", None), "on_uvloop", False):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
