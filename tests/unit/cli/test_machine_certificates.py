"""What a machine asks for when it joins by TLS, where that goes, and what the first machine makes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fs3.base.errors import FS3Error
from fs3.base.status import Code
from fs3.cli.machine_certificates import FirstCertificate, certificate_addresses, draft_certificate
from fs3.cli.node_config import MachineConfig, load_node_config
from fs3.drivers.tls import private_authority
from fs3.model.machine import IssuedCertificate


def machine(home: Path, tls: str = "[tls]") -> MachineConfig:
    file = home / "node.toml"
    file.write_text(
        f'machine = "h1"\ndata_dir = "{home}/lib"\naddress = "h1.lan"\nkv = "lmdb:{home}/kv"\n[mgmtd]\nport = 1\n{tls}\n'
    )
    return load_node_config(file)


def refused(code: Code, words: str, asked: object) -> None:
    with pytest.raises(FS3Error, match=words) as failure:
        asked()  # type: ignore[operator]
    assert failure.value.code is code


def test_where_files_are_that_are_not_named(tmp_path: Path) -> None:
    files = machine(tmp_path).tls
    assert files is not None
    home = tmp_path / "lib" / "tls"
    assert (files.ca, files.cert, files.key) == (f"{home}/ca.crt", f"{home}/h1.crt", f"{home}/h1.key")
    files = machine(tmp_path, '[tls]\nca = "/etc/fs3/ca.crt"').tls
    assert files is not None
    assert (files.ca, files.cert) == ("/etc/fs3/ca.crt", f"{home}/h1.crt")
    refused(Code.CONFIG, "tls.key 'h1.key' is no absolute path", lambda: machine(tmp_path, '[tls]\nkey = "h1.key"'))


def test_the_first_machine_has_an_authority_and_its_certificate(tmp_path: Path) -> None:
    config = machine(tmp_path)
    first = FirstCertificate(config, ["10.9.0.1"])
    assert config.tls is not None
    assert first.addresses == ("h1.lan", "10.9.0.1") == certificate_addresses(config.tls)
    authority = tmp_path / "lib" / "authority"
    assert first.authority.key == (authority / "ca.key").read_bytes()
    assert Path(config.tls.ca).read_bytes() == first.authority.certificate == (authority / "ca.crt").read_bytes()
    modes = [stat.S_IMODE(Path(each).stat().st_mode) for each in (config.tls.key, authority / "ca.key", authority)]
    assert modes == [0o600, 0o600, 0o700]
    again = FirstCertificate(config, [])
    assert again.authority == first.authority
    again.withdraw()
    assert Path(config.tls.key).exists(), "it had made nothing"
    first.withdraw()
    assert not any(path.is_file() for path in (tmp_path / "lib").rglob("*"))


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    config = machine(tmp_path)
    authority = private_authority.make_authority(tmp_path / "lib" / "authority", "mine")
    before = authority.read_bytes()
    FirstCertificate(config, []).withdraw()
    assert authority.read_bytes() == before
    refused(Code.CONFIG, "has none", lambda: FirstCertificate(machine(tmp_path, ""), []))
    assert draft_certificate(machine(tmp_path, ""), []) is None, "it does not speak TLS"


def test_a_certificate_is_asked_for_when_there_is_none_or_it_has_ended(tmp_path: Path) -> None:
    config = machine(tmp_path)
    files = config.tls
    assert files is not None
    draft = draft_certificate(config, ["h1.wan"])
    assert draft is not None
    assert draft.wish.addresses == ("h1.lan", "h1.wan")
    assert not Path(files.key).exists(), "nothing is written before there is an answer"
    refused(Code.PROTOCOL, "issued no certificate", lambda: draft.store(None))
    home = tmp_path / "ca"
    private_authority.make_authority(home, "test")
    parts = private_authority.read_authority(home)

    def issue(days: int = 90) -> IssuedCertificate:
        return IssuedCertificate(private_authority.sign_request(parts, draft.wish.request, "h1", ["h1.lan"], days=days), parts[0])

    draft.store(issue())
    assert draft_certificate(config, []) is None
    assert draft_certificate(config, [], anew=True) is not None
    draft.store(issue(days=-1))
    assert draft_certificate(config, []) is not None, "it has ended"


def test_what_a_crash_between_key_and_certificate_leaves_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = machine(tmp_path)
    FirstCertificate(config, [])
    files = config.tls
    assert files is not None
    home = tmp_path / "lib" / "authority"
    parts = private_authority.read_authority(home)
    cert, key = Path(files.cert), Path(files.key)
    kept = cert.read_bytes(), key.read_bytes()
    replace = private_authority._replace

    def store(crash_at: Path) -> None:
        """It is renewed, up to the file with which the process crashes."""

        def replace_or_crash(path: Path, data: bytes, mode: int) -> None:
            if path == crash_at:
                raise KeyboardInterrupt
            replace(path, data, mode)

        draft = draft_certificate(config, [], anew=True)
        assert draft is not None
        issued = IssuedCertificate(private_authority.sign_request(parts, draft.wish.request, "h1", ["h1.lan"]), parts[0])
        monkeypatch.setattr(private_authority, "_replace", replace_or_crash)
        with pytest.raises(KeyboardInterrupt):
            draft.store(issued)
        monkeypatch.undo()

    store(cert)
    assert (cert.read_bytes(), key.read_bytes()) == kept
    assert draft_certificate(config, []) is None
    store(key)
    assert (cert.read_bytes() != kept[0], key.read_bytes() == kept[1]) == (True, True)
    assert draft_certificate(config, []) is not None, "they do not belong together"
    for path in (cert, key, Path(files.ca)):
        path.unlink()
    store(cert)
    assert [path.exists() for path in (Path(files.ca), cert, key)] == [True, False, False]
    assert draft_certificate(config, []) is not None
    store(key)
    assert [path.exists() for path in (cert, key)] == [True, False]
    assert draft_certificate(config, []) is not None
    key.write_bytes(kept[1])
    cert.unlink()
    assert draft_certificate(config, []) is None, "its operator has drawn it, to have it certified"


def test_another_authority_is_not_put_in_place_of_the_one_that_is_believed(tmp_path: Path) -> None:
    config = machine(tmp_path)
    draft = draft_certificate(config, [])
    assert config.tls is not None
    assert draft is not None
    ca = Path(config.tls.ca)
    ca.parent.mkdir(parents=True)
    ca.write_bytes(b"another one")
    refused(Code.EXISTS, "not of the authority that the managers issue", lambda: draft.store(IssuedCertificate(b"C", b"CA")))
    assert not Path(config.tls.key).exists()
    ca.write_bytes(b"another one\nCA\n")
    draft.store(IssuedCertificate(b"C", b"CA"))
    assert ca.read_bytes() == b"another one\nCA\n"
    assert stat.S_IMODE(Path(config.tls.key).stat().st_mode) == 0o600
