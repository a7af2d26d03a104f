"""The certificate of a machine: made with the cluster (`fs3 cluster init --tls`), brought by joining it, renewed by its managers.

The key is drawn on the machine and never leaves it: what travels is a request, under the lock of a token or of the machine's key.
Files are those that `[tls]` of node.toml names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.cli.node_config import MachineConfig
from fs3.drivers.tls import private_authority
from fs3.drivers.tls.credentials import TlsFiles
from fs3.model.machine import CertificateAuthority, CertificateWish, IssuedCertificate

RENEWED_DAYS = 30
"""A certificate that ends within so many days is renewed."""


@dataclass(frozen=True)
class CertificateDraft:
    """A key that was drawn, and what is asked for with it. Nothing is written yet."""

    files: TlsFiles
    key: bytes
    wish: CertificateWish

    @property
    def knows_authority(self) -> bool:
        """The certificate of the cluster's authority is there already."""
        return Path(self.files.ca).exists()

    def store(self, issued: IssuedCertificate | None) -> None:
        """Put what was issued into place, the key readable by its owner alone. FS3Error: PROTOCOL when nothing was, EXISTS when
        the authority's file is there and of another one, DISK.

        The key is last: a crash on the way leaves a certificate that is not of the key beside it, if there is one, and
        `draft_certificate` asks for another.
        """
        if issued is None or not issued.certificate:
            raise error(Code.PROTOCOL, "the managers have issued no certificate")
        files: dict[Path, tuple[bytes, int]] = {}
        if not self.knows_authority:
            files[Path(self.files.ca)] = (issued.authority, 0o644)
        elif issued.authority.strip() not in Path(self.files.ca).read_bytes():
            told = "it is not of the authority that the managers issue certificates with: move it away, or put that one behind it"
            raise error(Code.EXISTS, told, self.files.ca)
        files |= {Path(self.files.cert): (issued.certificate, 0o644), Path(self.files.key): (self.key, 0o600)}
        private_authority.write_files(files)


def require_tls(config: MachineConfig) -> TlsFiles:
    """The files of a machine that speaks TLS. FS3Error CONFIG when it does not."""
    if config.tls is None:
        told = f"{config.source}: its processes speak TLS with a [tls] section, which may be empty: {config.source} has none"
        raise error(Code.CONFIG, told)
    return config.tls


def addresses_of(config: MachineConfig, more: Sequence[str]) -> tuple[str, ...]:
    """What a machine is reached by: the address in its file, and those that were named besides."""
    return tuple(dict.fromkeys((config.address, *more)))


def draft_certificate(config: MachineConfig, more: Sequence[str], *, anew: bool = False) -> CertificateDraft | None:
    """What to ask for when the machine speaks TLS and has no certificate, or one that has ended or is not of its key, or is to
    get another one (`anew`); None: there is nothing to ask for. A key alone is left for the certificate that it waits for."""
    if config.tls is None:
        return None
    cert, key = Path(config.tls.cert), Path(config.tls.key)
    is_good = private_authority.days_left(cert) >= 0 and private_authority.is_pair(cert, key) if cert.exists() else key.exists()
    if is_good and not anew:
        return None
    secret, request = private_authority.make_request(config.machine)
    return CertificateDraft(config.tls, secret, CertificateWish(request, addresses_of(config, more)))


def certificate_addresses(files: TlsFiles) -> tuple[str, ...]:
    """What the certificate of a machine is for."""
    (said, *_) = private_authority.describe(Path(files.cert))
    return tuple(filter(None, said["addresses"].split(", ")))


class FirstCertificate:
    """What the machine that makes a cluster makes for itself: an authority in DATA_DIR/authority, unless there is one, and its
    own certificate, unless it has one."""

    def __init__(self, config: MachineConfig, more: Sequence[str]) -> None:
        """FS3Error CONFIG when the machine does not speak TLS, or its authority cannot be used; UNSUPPORTED without what makes
        certificates."""
        self.addresses = addresses_of(config, more)
        self._made: list[Path] = []
        files, home = require_tls(config), config.data_dir / "authority"
        try:
            if not (home / private_authority.CA_CERT).exists():
                private_authority.make_authority(home, config.cluster)
                self._made += [home / private_authority.CA_CERT, home / private_authority.CA_KEY]
            self.authority = CertificateAuthority(*private_authority.read_authority(home))
            draft = draft_certificate(config, more)
            if draft is not None:
                parts = (self.authority.certificate, self.authority.key)
                issued = private_authority.sign_request(parts, draft.wish.request, config.machine, self.addresses)
                before = {path for path in map(Path, (files.ca, files.cert, files.key)) if path.exists()}
                draft.store(IssuedCertificate(issued, self.authority.certificate))
                self._made += [path for path in map(Path, (files.ca, files.cert, files.key)) if path not in before]
        except BaseException:
            self.withdraw()
            raise

    def withdraw(self) -> None:
        """No cluster was made: what was made for it goes."""
        for path in self._made:
            path.unlink(missing_ok=True)
