"""What a proxy says of a connection before it begins: the header of the PROXY protocol, version 1 or 2. Pure.

https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt has both. A receiver must not guess whether there is one:
who may send it is a setting, and who may must.
"""

from ipaddress import ip_address
from typing import Final, NamedTuple

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_WORD: Final = b"PROXY "
# Of version 1, with its end.
_LINE_MAX: Final = 107
# Of version 2, before what it holds; and what that may come to. Addresses take 36 bytes, the rest is of no use to us.
_FIXED: Final = 16
_REST_MAX: Final = 2048
_VERSION: Final = 2
_LOCAL: Final = 0
_PROXIED: Final = 1
# Of version 2, by the high half of the byte for it: bytes an address takes.
_FAMILIES: Final = {1: 4, 2: 16}
_PORT_BYTES: Final = 2
_PORTS: Final = 65_536


class Wrong(ValueError):
    """What came is no header."""


class Preface(NamedTuple):
    """How many bytes it takes, and whose connection it is: an address and a port, None for the proxy's own."""

    length: int
    client: tuple[str, int] | None


def read(data: bytes) -> Preface | None:
    """The header at the beginning of a connection; None while more of it is to come. Raises `Wrong`."""
    if data.startswith(_SIGNATURE):
        return _binary(data)
    if data.startswith(_WORD):
        return _line(data)
    if _SIGNATURE.startswith(data) or _WORD.startswith(data):
        return None
    raise Wrong("it begins as neither version does")


def _line(data: bytes) -> Preface | None:
    line, end, _ = data[:_LINE_MAX].partition(b"\r\n")
    if not end:
        if len(data) >= _LINE_MAX:
            raise Wrong("its line does not end")
        return None
    length = len(line) + len(end)
    match line.decode("latin-1").split(" "):
        case ["PROXY", "UNKNOWN", *_]:
            return Preface(length, None)
        case ["PROXY", ("TCP4" | "TCP6") as family, source, _, port, _]:
            try:
                address = ip_address(source)
            except ValueError as error:
                raise Wrong("its address is none") from error
            if address.version != int(family[-1]) or not (port.isascii() and port.isdigit() and int(port) < _PORTS):
                raise Wrong("its address is of another family, or its port is none")
            return Preface(length, (str(address), int(port)))
    raise Wrong("its line is of another shape")


def _binary(data: bytes) -> Preface | None:
    if len(data) < _FIXED:
        return None
    version, command = data[12] >> 4, data[12] & 0xF
    rest = int.from_bytes(data[14:16])
    if version != _VERSION or command not in (_LOCAL, _PROXIED) or rest > _REST_MAX:
        raise Wrong("its version, its command or its length is of another kind")
    length = _FIXED + rest
    if len(data) < length:
        return None
    size = _FAMILIES.get(data[13] >> 4)
    if command == _LOCAL or size is None:  # its own, or of no address that we know
        return Preface(length, None)
    if rest < 2 * (size + _PORT_BYTES):
        raise Wrong("it is too short for its addresses")
    at = _FIXED + 2 * size
    return Preface(length, (str(ip_address(data[_FIXED : _FIXED + size])), int.from_bytes(data[at : at + _PORT_BYTES])))
