"""A private authority for those who have none: it makes certificates for the machines and the users of a cluster.

Its key is in a directory (`make_authority`, `issue`), or with the managers, which answer requests of machines: `make_request` and
`sign_request`, where the key of the machine never leaves it.

Needs the package `cryptography` (`pip install 'fs3[tls]'`), which nothing else of fs3 does.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fs3.base.errors import error
from fs3.base.status import Code
from fs3.runtime.durable_files import sync_directory
from fs3.runtime.plain_files import read_plain_file

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

CA_CERT, CA_KEY = "ca.crt", "ca.key"
SERVICES = "fs3 services"
"""The organization that certificates of processes and machines name."""
AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\Z")
_CLOCKS_APART = datetime.timedelta(hours=1)
"""Certificates are valid from an hour ago: the clocks of machines differ."""


def make_authority(directory: Path, name: str, days: int = AUTHORITY_DAYS) -> Path:
    """Make ca.key and ca.crt in a directory, which is made when it is missing. Returns the certificate's path.

    FS3Error EXISTS when there is one already: everything it has issued would stop being believed.
    """
    _require()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in (CA_KEY, CA_CERT):
        if os.path.lexists(directory / file):
            raise error(
                Code.EXISTS, "there is an authority already; what it has issued would not be believed any more", str(directory)
            )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(_attributes(name, "fs3 authority"))
    usage = _usage(sign_certificates=True)
    builder = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _write_pair(directory, CA_CERT, CA_KEY, [builder.sign(key, hashes.SHA256())], key)
    return directory / CA_CERT


def issue(
    directory: Path, into: Path, name: str, addresses: Sequence[str], *, organization: str = "", days: int = CERTIFICATE_DAYS
) -> Path:
    """Make NAME.key and NAME.crt in `into` with the authority in `directory`. Returns the certificate's path.

    `addresses`: host names and IP addresses it is for; none: it is of a user, and no server can show it. What was issued for the
    name before is replaced, the certificate last. FS3Error INVALID for a name or address that is none, NOT_FOUND without an
    authority.
    """
    _require()
    from cryptography.hazmat.primitives.asymmetric import ec

    authority, authority_key = _load(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _issue(authority, authority_key, key.public_key(), name, addresses, organization, days)
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_pair(into, f"{name}.crt", f"{name}.key", [certificate], key)
    return into / f"{name}.crt"


def make_request(name: str) -> tuple[bytes, bytes]:
    """A key, and the request for a certificate of it, both in PEM."""
    _require()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(_attributes(name, ""))).sign(key, hashes.SHA256())
    return _private_bytes(key), request.public_bytes(serialization.Encoding.PEM)


def sign_request(
    authority: tuple[bytes, bytes],
    request: bytes,
    name: str,
    addresses: Sequence[str],
    organization: str = SERVICES,
    days: int = CERTIFICATE_DAYS,
) -> bytes:
    """A certificate in PEM for the key of a request; what else the request says counts for nothing.

    `authority`: its certificate and its key, in PEM. FS3Error INVALID for a request that is none, or was signed with another key
    than the one it names, and for a name or address that is none; CONFIG for an authority that is none.
    """
    _require()
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        wanted = x509.load_pem_x509_csr(request)
        is_own = wanted.is_signature_valid
        public = wanted.public_key()
    except Exception as wrong:  # of the parser's own kinds, which differ between its releases
        raise error(Code.INVALID, f"this is no request for a certificate: {type(wrong).__name__}") from None
    if not is_own:
        raise error(Code.INVALID, "the request for a certificate was not signed with the key it names")
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != ec.SECP256R1.name:
        raise error(Code.INVALID, "the key of a request for a certificate is one of curve P-256")
    certificate, key = _parse_authority(*authority, "the cluster's authority")
    return _issue(certificate, key, public, name, addresses, organization, days).public_bytes(serialization.Encoding.PEM)


def write_files(files: dict[Path, tuple[bytes, int]]) -> None:
    """Put files in place of what was there, in this order, each with its mode: others cannot read a secret at any moment. One is
    durable before the next is replaced. Directories that are missing are made, for their owner alone. FS3Error DISK."""
    for path, (data, mode) in files.items():
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(path, data, mode)
            sync_directory(path.parent)
        except OSError as why:
            raise error(Code.DISK, f"it cannot be written: {why.strerror}", str(path)) from None


def read_authority(directory: Path) -> tuple[bytes, bytes]:
    """The certificate and the key of the authority in a directory, in PEM. FS3Error NOT_FOUND without one, CONFIG when it cannot
    be used."""
    _require()
    shown, secret = _read_pair(directory)
    _parse_authority(shown, secret, str(directory))
    return shown, secret


def is_pair(cert: Path, key: Path) -> bool:
    """The first certificate in a PEM file is of the private key in the other one; so is taken what cannot be told, as the key is
    encrypted or of a kind that is not known. A file that is missing, or is no such PEM file, makes no pair. FS3Error CONFIG when
    one cannot be read."""
    _require()
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        (certificate, *_), private = x509.load_pem_x509_certificates(read_plain_file(cert)), read_plain_file(key)
        return certificate.public_key() == load_pem_private_key(private, None).public_key()
    except (TypeError, UnsupportedAlgorithm):
        return True
    except (ValueError, FileNotFoundError):
        return False
    except OSError as why:
        raise error(Code.CONFIG, f"it cannot be read: {why.strerror}", str(why.filename)) from None


def days_left(path: Path) -> float:
    """How long the first certificate in a PEM file is believed still; negative when it has ended. FS3Error CONFIG."""
    (said, *_) = describe(path)
    left = datetime.datetime.fromisoformat(said["not_after"]) - datetime.datetime.now(datetime.UTC)
    return left / datetime.timedelta(days=1)


def _issue(
    authority: x509.Certificate,
    authority_key: EllipticCurvePrivateKey,
    public: EllipticCurvePublicKey,
    name: str,
    addresses: Sequence[str],
    organization: str,
    days: int,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    if not _NAME.match(name):
        raise error(Code.INVALID, f"{name!r} is no name: letters, digits, '.', '_' and '-', at most 63")
    purposes = [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    if addresses:
        purposes.append(x509.oid.ExtendedKeyUsageOID.SERVER_AUTH)
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(x509.Name(_attributes(name, organization)), authority.subject, public, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    if addresses:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(each) for each in addresses]), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def describe(path: Path) -> list[dict[str, str]]:
    """What the certificates in a PEM file say. FS3Error CONFIG when it is none."""
    _require()
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(read_plain_file(path))
    except OSError as why:
        raise error(Code.CONFIG, f"it cannot be read: {why.strerror}", str(path)) from None
    except ValueError:
        raise error(Code.CONFIG, "it is no PEM file of certificates", str(path)) from None
    return [_describe(certificate) for certificate in found]


def _describe(certificate: x509.Certificate) -> dict[str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = [str(each.value) for each in names]
    except x509.ExtensionNotFound:
        addresses = []
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "addresses": ", ".join(addresses),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        told = "certificates are made by the package cryptography: pip install 'fs3[tls]', or make them by other means"
        raise error(Code.UNSUPPORTED, told) from None


def _attributes(name: str, organization: str) -> list[x509.NameAttribute[str]]:
    from cryptography import x509

    found = [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
    if organization:
        found.insert(0, x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization))
    return found


def _builder(subject: x509.Name, issuer: x509.Name, public: EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - _CLOCKS_APART)
        .not_valid_after(end)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not sign_certificates, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=sign_certificates, crl_sign=sign_certificates, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _general_name(address: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        pass
    if not _HOST_NAME.match(address):
        raise error(Code.INVALID, f"{address!r} is no address and no host name")
    return x509.DNSName(address)


def _load(directory: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    return _parse_authority(*_read_pair(directory), str(directory))


def _read_pair(directory: Path) -> tuple[bytes, bytes]:
    try:
        return read_plain_file(directory / CA_CERT), read_plain_file(directory / CA_KEY)
    except FileNotFoundError as why:
        raise error(Code.NOT_FOUND, "there is no authority here: run `fs3 certs init`", str(why.filename)) from None
    except OSError as why:
        raise error(Code.CONFIG, f"it cannot be read: {why.strerror}", str(why.filename)) from None


def _parse_authority(shown: bytes, secret: bytes, where: str) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificate(shown)
        key = load_pem_private_key(secret, None)
    except (ValueError, TypeError):
        raise error(Code.CONFIG, f"{CA_CERT} or {CA_KEY} is damaged", where) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise error(Code.CONFIG, "its key is not one of an authority made by `fs3 certs init`", where)
    if certificate.public_key() != key.public_key():
        raise error(Code.CONFIG, f"{CA_KEY} is not the key of {CA_CERT}", where)
    if not _is_authority(certificate):
        raise error(Code.CONFIG, f"{CA_CERT} is no certificate of an authority made by `fs3 certs init`", where)
    return certificate, key


def _is_authority(certificate: x509.Certificate) -> bool:
    """It may issue others, and says by which identifier those name it."""
    from cryptography import x509

    try:
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _write_pair(
    directory: Path, cert: str, key: str, certificates: Sequence[x509.Certificate], private: EllipticCurvePrivateKey
) -> None:
    from cryptography.hazmat.primitives import serialization

    secret = _private_bytes(private)
    shown = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)
    try:
        _replace(directory / key, secret, 0o600)
        _replace(directory / cert, shown, 0o644)
    except OSError as why:
        raise error(Code.DISK, f"it cannot be written: {why.strerror}", str(directory)) from None


def _private_bytes(private: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _replace(path: Path, data: bytes, mode: int) -> None:
    """A new file in place of the old one; others cannot read a secret at any moment."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
