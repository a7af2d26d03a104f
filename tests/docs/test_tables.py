"""Tables in the documentation that are made from the code are what the code says.

`python -m fs3.sim tables --write` writes them anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fs3.sim.command import main
from fs3.sim.tables import TABLES, list_documents, rewrite_tables

WITH_TABLES = list_documents()


@pytest.mark.parametrize("path", WITH_TABLES, ids=[path.stem for path in WITH_TABLES])
def test_tables_are_what_the_code_says(path: Path) -> None:
    assert rewrite_tables(path.read_text()) == path.read_text()


def test_every_table_of_the_replication_is_documented() -> None:
    assert {"admission", "reads", "resync choice", "chain transitions", "planted bugs"} <= TABLES.keys()
    text = "".join(path.read_text() for path in WITH_TABLES)
    for name in TABLES:
        assert f"<!-- table: {name} -->" in text


def test_bad_documents_are_named() -> None:
    with pytest.raises(ValueError, match="no such table: weather"):
        rewrite_tables("<!-- table: weather -->\n<!-- end of table -->\n")
    with pytest.raises(ValueError, match="the table reads has no end"):
        rewrite_tables("<!-- table: reads -->\n")


def test_documents_are_checked_and_rewritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.md"
    path.write_text("# Reads\n\n<!-- table: reads -->\nnothing\n<!-- end of table -->\n\nThe end.\n")
    assert main(["tables", str(path)]) == 1
    assert main(["tables", "--write", str(path)]) == 0
    assert main(["tables", str(path)]) == 0
    assert "rewritten" in capsys.readouterr().out
    assert path.read_text().endswith("|\n<!-- end of table -->\n\nThe end.\n")
