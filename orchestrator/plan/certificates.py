"""Make the certificate authority and the server certificate of a lab.

A lab has an authority of its own, whose key signs one certificate, that of the controller, and is never
written. Whoever trusts the authority therefore trusts this controller and nothing else. The keys are of P-256
and the signatures of ECDSA: every implementation of TLS 1.3 has them (RFC 8446, section 9.1), and they cost
less than RSA.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from orchestrator.clock import Clock, SystemClock
from orchestrator.topology import Access

__all__ = [
    "AUTHORITY_FILE",
    "CERTIFICATE_FILE",
    "KEY_FILE",
    "Certificates",
    "certificate_names",
    "make_certificates",
]

AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "controller.crt", "controller.key"
"""Their names in the run directory."""

CLOCK_SKEW = timedelta(days=1)
"""How far the clock of another machine may be behind ours."""

VALIDITY = timedelta(days=3_650)
"""Longer than a lab lives: its certificate is not renewed, but made anew with the lab."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What the controller and its clients have for TLS, as PEM text.

    Attributes:
        authority: The certificate of the certificate authority, for clients.
        certificate: The controller's certificate.
        key: Its private key.
    """

    authority: str
    certificate: str
    key: str = field(repr=False)


def certificate_names(access: Access) -> tuple[str, ...]:
    """Return the names and addresses at which the controller is reached; `controller` is its container's."""
    own = ("localhost", "127.0.0.1", "::1", "controller")
    return tuple(dict.fromkeys((*own, *((access.listen,) if access.listen else ()), *access.names)))


def make_certificates(
    lab: str, names: Sequence[str], *, clock: Clock | None = None, validity: timedelta = VALIDITY
) -> Certificates:
    """Make a new authority, and a certificate of it for names and addresses.

    Args:
        lab: The lab's name, for those who look at the certificates.
        names: Host names and IP addresses at which the controller is reached.
        clock: The time.
        validity: How long both are valid from now.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    now = (clock or SystemClock()).wall()
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name(f"nm lab {lab} certificate authority")

    def begun(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        start = datetime.fromtimestamp(now).astimezone()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - CLOCK_SKEW)
            .not_valid_after(start + validity)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )

    authority = (
        begun(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        begun(_name(f"nm lab {lab} controller"), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Certificates(authority=_pem(authority), certificate=_pem(certificate), key=_private_pem(key))


def _name(text: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # RFC 5280: ub-common-name


def _general_name(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(**used: bool) -> Any:
    from cryptography import x509

    uses = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{use: used.get(use, False) for use in uses})


def _pem(certificate: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    text: bytes = certificate.public_bytes(Encoding.PEM)
    return text.decode()


def _private_pem(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()
