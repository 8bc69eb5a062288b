"""Certificates that close a door: none is meant to be trusted by anyone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from services.supervise import write_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_YEARS = 100


def write_certificate(path: Path, *, keep_key: bool = True) -> tuple[Path, Path]:
    """Write a self-signed certificate `path`.crt and its key `path`.key (both mode 0600), unless they are there.

    Args:
        path: without its ending.
        keep_key: False: the key is forgotten, so that nothing can ever be signed with it.

    Returns:
        The paths of both.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    certificate, private = path.with_suffix(".crt"), path.with_suffix(".key")
    if certificate.exists() and (private.exists() or not keep_key):
        return certificate, private
    key = ec.generate_private_key(ec.SECP256R1())
    if keep_key:
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_secret(private, key.private_bytes(*form).decode())
    write_secret(certificate, _signed(key, path.name))
    return certificate, private


def _signed(key: EllipticCurvePrivateKey, name: str) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    subject, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + timedelta(days=365 * _YEARS))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
