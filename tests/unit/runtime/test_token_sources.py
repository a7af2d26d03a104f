from __future__ import annotations

import os
import pickle
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error, InvalidArgument, NoPermission, NotFound
from fs3.base.secret import Secret
from fs3.runtime.node_key import NODE_KEY_FILE, ensure_node_key, load_node_key
from fs3.runtime.token_sources import EnvironmentToken, find_token_source

TOKEN = f"fs3u-00112233-0123abcd-{'5' * 64}"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FS3_TOKEN", "FS3_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def write(file: Path, text: str = TOKEN, mode: int = 0o600) -> Path:
    file.write_text(f"{text}\n")
    file.chmod(mode)
    return file


def revealed(secret: Secret | None) -> str | None:
    return secret.reveal() if secret is not None else None


def test_what_is_given_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_token_source().read() is None
    monkeypatch.setenv("FS3_TOKEN_FILE", str(write(tmp_path / "token", "of the file")))
    assert revealed(find_token_source().read()) == "of the file"
    monkeypatch.setenv("FS3_TOKEN", "of the environment")
    assert revealed(find_token_source().read()) == "of the environment"
    assert revealed(find_token_source(token_file=tmp_path / "token").read()) == "of the file"
    assert revealed(find_token_source("given").read()) == "given"
    with pytest.raises(InvalidArgument, match="one of them"):
        find_token_source("given", tmp_path / "token")


def test_a_token_file_is_read_anew(tmp_path: Path) -> None:
    source = find_token_source(token_file=write(tmp_path / "token", "old"))
    assert revealed(source.read()) == "old"
    write(tmp_path / "token", "new")
    assert revealed(source.read()) == "new"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(NoPermission, match=f"mode {mode:o}") as refused:
        find_token_source(token_file=write(tmp_path / "token", mode=mode)).read()
    assert "5555" not in str(refused.value)


def test_files_that_hold_no_token_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="token"):
        find_token_source(token_file=tmp_path / "none").read()
    with pytest.raises(InvalidArgument, match="this is none"):
        find_token_source(token_file=tmp_path).read()
    with pytest.raises(InvalidArgument, match="more than"):
        find_token_source(token_file=write(tmp_path / "long", "x" * 5000)).read()


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """In a process of its own, which is ended if it waits."""
    pipe, device, place = tmp_path / "pipe", Path("/dev/zero"), tmp_path / "socket"
    os.mkfifo(pipe, 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        for file in (pipe, place, device):
            code = "import sys; from fs3.runtime.token_sources import find_token_source as f; f(token_file=sys.argv[1]).read()"
            done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=60)
            assert "InvalidArgument" in done.stderr, done.stderr
            assert "this is none" in done.stderr
            assert str(file) in done.stderr


def test_a_link_is_as_good_as_what_it_leads_to(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(write(tmp_path / "token"))
    assert revealed(find_token_source(token_file=link).read()) == TOKEN
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(NoPermission, match="mode 644"):
        find_token_source(token_file=link).read()
    (tmp_path / "token").unlink()
    os.mkfifo(tmp_path / "token", 0o600)
    with pytest.raises(InvalidArgument, match="this is none"):
        find_token_source(token_file=link).read()


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    file = write(tmp_path / "token")
    os.truncate(file, 1 << 40)
    with pytest.raises(InvalidArgument, match="more than"):
        find_token_source(token_file=file).read()


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users are made by root")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "token")
    os.chown(file, 12345, 12345)
    with pytest.raises(NoPermission, match="uid 12345"):
        find_token_source(token_file=file).read()


def test_a_secret_shows_nowhere_and_secrets_are_told_apart() -> None:
    secret = Secret(TOKEN)
    for text in (repr(secret), str(secret), f"{secret}", repr([secret]), repr(pickle.dumps(secret))):
        assert "5555" not in text
    assert repr(secret) != repr(Secret(TOKEN[:-1] + "6"))
    assert secret == Secret(TOKEN)
    assert secret != Secret("other")
    assert hash(secret) == hash(Secret(TOKEN))
    assert not hasattr(secret, "__dict__")


def test_a_secret_does_not_travel_to_another_process() -> None:
    secret = Secret(TOKEN)
    again = pickle.loads(pickle.dumps(secret))
    assert again == secret
    assert again.reveal() == TOKEN
    code = "import pickle, sys; print(repr(pickle.load(sys.stdin.buffer).reveal()))"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(secret), capture_output=True, check=True)
    assert done.stdout.strip() == b"''"


def test_a_token_that_did_not_travel_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Secret.__new__(Secret)
    lost._text, lost._mark = "", "0" * 32
    with pytest.raises(FS3Error, match="in no pickle"):
        find_token_source(lost).read()
    monkeypatch.setenv("FS3_TOKEN", TOKEN)
    assert revealed(find_token_source(lost).read()) == TOKEN
    assert revealed(EnvironmentToken().read()) == TOKEN


def test_the_key_of_a_node_is_drawn_once_for_its_owner_alone(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_node_key(tmp_path)
    before = os.umask(0)
    try:
        key = ensure_node_key(tmp_path)
    finally:
        os.umask(before)
    assert len(key) == 32
    assert ensure_node_key(tmp_path) == load_node_key(tmp_path) == key
    file = tmp_path / NODE_KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [NODE_KEY_FILE]
    file.chmod(0o644)
    with pytest.raises(NoPermission, match="others can read the key of the node"):
        ensure_node_key(tmp_path)
    write(file, "no key")
    with pytest.raises(FS3Error, match="no key of a node"):
        ensure_node_key(tmp_path)
