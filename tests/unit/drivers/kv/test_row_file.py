"""An export gives back what was written, or says where it is not that."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.drivers.kv import row_file
from fs3.drivers.kv.row_file import RowFileWriter, StoreHead, read_row_file

HEADS = [StoreHead("mgmtd", "ab" * 16, 5, "1"), StoreHead("meta", "ab" * 16, 6, "1")]
ROWS = [[(b"a", b"1")], [(b"key-%03d" % number, b"value" * number) for number in range(40)]]


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(row_file, "row_file_block_bytes_max", 2000)
    path = tmp_path / "export"
    with RowFileWriter(path) as out:
        for head, rows in zip(HEADS, ROWS, strict=True):
            out.begin(head)
            out.add(rows[:7])
            out.add(rows[7:])
            assert out.end() == len(rows)
    return path


def read(path: Path) -> list[tuple[StoreHead, list[tuple[bytes, bytes]]]]:
    found: list[tuple[StoreHead, list[tuple[bytes, bytes]]]] = []
    for part in read_row_file(path):
        if isinstance(part, StoreHead):
            found.append((part, []))
        else:
            found[-1][1].extend(part)
    return found


def refusal(path: Path) -> FS3Error:
    with pytest.raises(FS3Error) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_what_was_written_is_read(export: Path) -> None:
    assert read(export) == list(zip(HEADS, ROWS, strict=True))
    assert [path.name for path in export.parent.iterdir()] == ["export"]


def test_a_file_that_is_cut_is_refused_wherever_that_is(export: Path) -> None:
    whole = export.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole)):
        export.write_bytes(whole[:length])
        why = refusal(export)
        assert why.code is Code.DATA_LOSS
        assert "it was cut" in str(why)


def test_a_file_that_is_altered_is_refused_wherever_that_is(export: Path) -> None:
    whole = bytearray(export.read_bytes())
    for at in range(len(whole)):
        whole[at] ^= 0x11
        export.write_bytes(whole)
        assert refusal(export).code in (Code.DATA_LOSS, Code.UNSUPPORTED, Code.INVALID)
        whole[at] ^= 0x11


def test_blocks_in_another_order_and_bytes_behind_the_end_are_refused(export: Path) -> None:
    whole = export.read_bytes()
    export.write_bytes(whole + b"x")
    assert "follows its end" in str(refusal(export))
    body = whole[whole.index(b"\n") + 1 :]
    export.write_bytes(whole + body)
    assert refusal(export).code is Code.DATA_LOSS


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (b"", Code.INVALID, "no export"),
        (b"PAR1 and so on", Code.INVALID, "no export"),
        (b"fs3-kv-export 2\nrest", Code.UNSUPPORTED, "version '2', this software reads 1"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, code: Code, told: str) -> None:
    (tmp_path / "file").write_bytes(content)
    why = refusal(tmp_path / "file")
    assert why.code is code
    assert told in str(why)


def test_no_file_is_replaced_and_none_is_left_of_an_export_that_fails(export: Path) -> None:
    with pytest.raises(FS3Error, match="exists"):
        RowFileWriter(export)
    with suppress(ZeroDivisionError), RowFileWriter(export.with_name("other")) as out:
        out.begin(HEADS[0])
        raise ZeroDivisionError
    assert [path.name for path in export.parent.iterdir()] == ["export"]
    assert refusal(export.with_name("absent")).code is Code.NOT_FOUND
