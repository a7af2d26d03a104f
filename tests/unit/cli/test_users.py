"""`fs3 user`: what is asked of the managers, and where a token goes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.cli.main import app
from fs3.cli.users import parse_lifetime, token_place


@pytest.mark.parametrize("text", ["0s", "1ns", "999us", "36501d", "99999999999999d"])
def test_a_lifetime_that_is_none_is_not_for_ever(text: str) -> None:
    with pytest.raises(FS3Error, match=f"--lifetime {text}: 1ms to 36500d, or 0") as refused:
        parse_lifetime(text)
    assert refused.value.code is Code.INVALID


def test_lifetimes() -> None:
    assert (parse_lifetime("0"), parse_lifetime("1ms"), parse_lifetime("90d")) == (0, 1, 90 * 86_400_000)


@pytest.mark.parametrize("option", ["--uid", "--gid", "--group"])
@pytest.mark.parametrize("number", ["-1", "4294967295", "99999999999"])
def test_ids_that_are_none(option: str, number: str) -> None:
    for verb in ("add", "set"):
        found = CliRunner().invoke(app, ["user", verb, "x", "--uid", "1", option, number, "--cluster", "127.0.0.1:1"]).exception
        assert isinstance(found, FS3Error)
        assert str(found) == f"{option} {number}: 0 to 4294967294"


def test_a_token_has_its_place_before_it_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    with token_place(file) as hand_out:
        assert file.read_bytes() == b""
        hand_out("secret")
    assert file.read_text() == "secret\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "secret" not in capsys.readouterr().out
    is_made = False
    with pytest.raises(FS3Error) as refused, token_place(file):
        is_made = True
    assert (refused.value.code, is_made) == (Code.EXISTS, False)


def test_a_place_without_a_token_vanishes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), token_place(tmp_path / "token"):
        raise ZeroDivisionError
    with token_place(tmp_path / "token"):
        pass  # there was an administrator already
    assert not (tmp_path / "token").exists()


def test_a_token_that_cannot_be_written_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"), token_place(tmp_path / "token") as hand_out:
        hand_out("secret")
    assert capsys.readouterr().out == "secret\n"


def test_a_token_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with token_place(None) as hand_out:
        hand_out("secret")
    assert capsys.readouterr().out == "secret\n"
