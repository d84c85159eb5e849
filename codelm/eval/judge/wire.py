"""What may pass between the tests and an untrusted program: literals, in frames.

A frame is four bytes of length and so many bytes of JSON. Literals that JSON lacks are objects with one key, their
tag. Decoding builds plain built-in values only, whatever the bytes; subclasses cross as the plain value they hold, so
that nothing the program wrote (an `__eq__`, a `__hash__`) reaches the tests.
"""

import json
import socket
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_FRAME = 16 << 20
_MAX_DEPTH = 200
_LONGEST_PLAIN_INT = 1 << 63
_PLAIN = {str, float, bool, int, type(None)}


class NotLiteral(Exception):
    """A value that may not cross; its text says which."""


class BadFrame(Exception):
    """Bytes that are no frame of this protocol."""


class Closed(Exception):
    """The other side is gone."""


def encode(value: Any, depth: int = 0) -> Any:
    """Turn a literal into what JSON can hold.

    Raises:
        NotLiteral: for anything but literals (and Fraction, Decimal and range, which equal some).
    """
    if depth > _MAX_DEPTH:
        raise NotLiteral(f"a value nested deeper than {_MAX_DEPTH}")
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__add__(value, 0)
        return number if -_LONGEST_PLAIN_INT < number < _LONGEST_PLAIN_INT else {"int": hex(number)}
    if isinstance(value, float):
        return float.__add__(value, 0.0) if value == value else float("nan")
    if kind is list and set(map(type, value)) <= _PLAIN and _fits(value):
        return value  # a million of them takes no time
    if isinstance(value, list):
        return [encode(item, depth + 1) for item in list.__iter__(value)]
    if isinstance(value, tuple):
        return {"tuple": [encode(item, depth + 1) for item in tuple.__iter__(value)]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, depth + 1), encode(item, depth + 1)] for key, item in dict.items(value)]}
    if isinstance(value, set):
        return {"set": [encode(item, depth + 1) for item in set.__iter__(value)]}
    if isinstance(value, frozenset):
        return {"frozenset": [encode(item, depth + 1) for item in frozenset.__iter__(value)]}
    if isinstance(value, bytes | bytearray):
        return {kind.__name__: bytes(memoryview(value)).hex()} if kind in (bytes, bytearray) else _refuse(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if kind is range:
        return {"range": [encode(part) for part in (value.start, value.stop, value.step)]}
    if kind is Fraction:
        return {"fraction": [encode(value.numerator), encode(value.denominator)]}
    if kind is Decimal:
        return {"decimal": str(value)}
    return _refuse(value)


def _fits(values: list[Any]) -> bool:
    """Whether JSON can hold the integers among plain values."""
    whole = [value for value in values if type(value) is int]
    return not whole or (min(whole) > -_LONGEST_PLAIN_INT and max(whole) < _LONGEST_PLAIN_INT)


def _refuse(value: Any) -> Any:
    raise NotLiteral(f"a value of type {type(value).__name__}")


def decode(value: Any) -> Any:
    """The inverse of `encode`, for untrusted input.

    Raises:
        BadFrame: when no `encode` can have made it.
    """
    try:
        return _decode(value)
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise BadFrame(f"not a literal: {type(error).__name__}") from None


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return value if set(map(type, value)) <= _PLAIN else [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, body),) = value.items()
    return _DECODERS[tag](body)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda body: int(body, 16),
    "tuple": lambda body: tuple(_decode(item) for item in body),
    "dict": lambda body: {_decode(key): _decode(item) for key, item in body},
    "set": lambda body: {_decode(item) for item in body},
    "frozenset": lambda body: frozenset(_decode(item) for item in body),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda body: complex(*(float(part) for part in body)),
    "range": lambda body: range(*(_decode(part) for part in body)),
    "fraction": lambda body: Fraction(*(_decode(part) for part in body)),
    "decimal": lambda body: Decimal(body),
}


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one frame.

    Raises:
        NotLiteral: when it is longer than a frame may be.
        Closed: when nobody listens.
    """
    body = json.dumps(message).encode()
    if len(body) > MAX_FRAME:
        raise NotLiteral(f"a value of {len(body)} bytes")
    try:
        connection.sendall(struct.pack("!I", len(body)) + body)
    except OSError:
        raise Closed from None


def receive(connection: socket.socket) -> dict[str, Any]:
    """Receive one frame.

    Raises:
        BadFrame: for bytes that are none.
        Closed: at the end of the stream.
    """
    (length,) = struct.unpack("!I", _exactly(connection, 4))
    if length > MAX_FRAME:
        raise BadFrame(f"a frame of {length} bytes")
    body = _exactly(connection, length)
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise BadFrame("a frame that is no JSON") from None
    if not isinstance(message, dict):
        raise BadFrame("a frame that is no object")
    return message


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        try:
            part = connection.recv(min(length, 1 << 20))
        except OSError:
            raise Closed from None
        if not part:
            raise Closed
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
