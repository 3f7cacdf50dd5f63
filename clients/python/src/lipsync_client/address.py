"""Server addresses as people write them."""

from dataclasses import dataclass
from ipaddress import ip_address

DEFAULT_PORT = 50_051
"""Where a server listens unless configured otherwise."""

_SCHEMES = {"http": False, "grpc": False, "https": True, "grpcs": True}
"""Whether a scheme means TLS."""
_NATIVE = ("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:")
"""What grpcio understands by itself; in clear unless credentials are given."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect, and whether with TLS."""

    target: str
    """As grpcio takes it."""
    is_secure: bool
    """Whether it must be TLS."""


def parse(text: str) -> Address:
    """Understand `host:port`, `host`, and URIs of the schemes http, grpc, https and grpcs.

    Names of grpcio's own (`dns:///host:port`, `unix:/path`) go through. Raises `ValueError`.
    """
    stripped = text.strip()
    scheme, separator, rest = stripped.partition("://")
    lower = stripped.lower()
    if lower.startswith(_NATIVE):
        return Address(stripped, False)
    if not separator:
        # A forgotten slash must not turn TLS into clear text to a host called `https`.
        if lower.startswith(tuple(f"{name}:" for name in _SCHEMES)):
            raise _wrong(text, "two slashes follow a scheme")
        return Address(_authority(text, stripped, DEFAULT_PORT), False)
    is_secure = _SCHEMES.get(scheme.lower())
    if is_secure is None:
        raise _wrong(text, "its scheme is not known: http, https, grpc and grpcs are")
    return Address(_authority(text, rest.removesuffix("/"), 443 if is_secure else 80), is_secure)


def is_exposed(text: str) -> bool:
    """Whether what is sent there can be read on the way: without TLS, to another machine."""
    address = parse(text)
    target = address.target
    if address.is_secure or target.startswith(("unix:", "unix-abstract:")):
        return False
    host = target.rpartition("/")[2].rpartition(":")[0].strip("[]").lower()
    if host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True


def _authority(text: str, authority: str, default_port: int) -> str:
    if any(mark in authority for mark in "/?#"):
        raise _wrong(text, "gRPC takes no path, only a host and a port")
    if "@" in authority:
        raise _wrong(text, "a user name or password has no place in it")
    if authority.startswith("["):
        host, bracket, port = authority.partition("]")
        host += bracket
        if not bracket or (port and not port.startswith(":")):
            raise _wrong(text, "the host cannot be read")
    else:
        host, separator, port = authority.partition(":")
        port = separator + port
        if ":" in port[1:]:
            raise _wrong(text, "an IPv6 address stands in brackets")
    if not host or any(letter.isspace() for letter in host):
        raise _wrong(text, "it names no host")
    if not port:
        return f"{host}:{default_port}"
    digits = port[1:]
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65_536):
        raise _wrong(text, "the port is not a number from 1 to 65535")
    return f"{host}{port}"


def _wrong(text: str, reason: str) -> ValueError:
    return ValueError(
        f"not a server address: {text!r}: {reason} "
        "(expected for example 127.0.0.1:50051 or https://faces.example)"
    )
