"""What crosses between tests and program: literals, exactly; nothing else."""

import collections
import enum
import math
import socket
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.eval.judge import wire

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
HASHABLE = st.recursive(ATOMS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
LITERALS = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
    ),
    max_leaves=12,
)


def crossed(value):
    left, right = socket.socketpair()
    with left, right:
        wire.send(left, {"value": wire.encode(value)})
        return wire.decode(wire.receive(right)["value"])


def types(value):
    if isinstance(value, dict):
        return dict, sorted((repr(types(key)), repr(types(item))) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        inner = [repr(types(item)) for item in value]
        return type(value), inner if isinstance(value, list | tuple) else sorted(inner)
    return type(value)


@given(LITERALS)
@settings(max_examples=300, deadline=None)
def test_literals_arrive_as_they_were(value):
    there = crossed(value)
    assert there == value
    assert types(there) == types(value)


@pytest.mark.parametrize(
    "value",
    [-0.0, math.inf, -math.inf, 1e308, 5e-324, 10**5000, -(2**63), range(2, 9, 3), Fraction(-1, 3), Decimal("1.50")],
    ids=lambda value: type(value).__name__,
)
def test_edges_arrive_as_they_were(value):
    assert crossed(value) == value
    assert type(crossed(value)) is type(value)
    assert math.copysign(1, crossed(-0.0)) == -1


def test_nan_arrives_and_equals_nothing():
    assert math.isnan(crossed(float("nan")))


class Lies:
    def __eq__(self, other):
        return True

    __hash__ = object.__hash__


class Liar(int):
    __eq__ = Lies.__eq__
    __add__ = __int__ = __index__ = __repr__ = lambda self, *_: 5
    __hash__ = object.__hash__


class LiarList(list):
    __eq__ = Lies.__eq__
    __hash__ = None
    __iter__ = lambda self: iter([1, 2, 3])  # noqa: E731


class LiarDict(dict):
    items = lambda self: [("right", 1)]  # noqa: E731


class LiarText(str):
    __str__ = __repr__ = lambda self: "right"


class Colour(enum.IntEnum):
    RED = 4


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Liar(4), 4),
        (LiarList([9]), [9]),
        (LiarDict(wrong=0), {"wrong": 0}),
        (LiarText("wrong"), "wrong"),
        (Colour.RED, 4),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.namedtuple("P", "x y")(1, 2), (1, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_cross_as_the_plain_value_they_hold(value, plain):
    there = crossed(value)
    assert there == plain
    assert type(there) is type(plain)


@pytest.mark.parametrize("value", [object(), Lies(), len, int, iter([]), {}.keys(), [Lies()], {"a": (Lies(),)}, ...])
def test_other_values_do_not_cross(value):
    with pytest.raises(wire.NotLiteral):
        wire.encode(value)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"unknown": 1},
        {"int": "zz"},
        {"int": 1, "tuple": []},
        {"dict": [[1]]},
        {"dict": [[[1], 2]]},
        {"set": [[]]},
        {"complex": ["a", 1]},
        {"complex": [1, 2, 3]},
        {"range": [1, 2, 0]},
        {"fraction": [1, 0]},
        {"decimal": "x"},
        {"bytes": 3},
        {"tuple": 7},
        {"int": None},
    ],
    ids=str,
)
def test_what_no_encoder_makes_is_refused(body):
    with pytest.raises(wire.BadFrame):
        wire.decode(body)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\0\0\0\x03abc", b"\0\0\0\x02[]", b"\0\0\0\x04\xff\xfe\0\0"], ids=str
)
def test_bytes_that_are_no_frame_are_refused(data):
    left, right = socket.socketpair()
    with left, right:
        left.sendall(data)
        with pytest.raises(wire.BadFrame):
            wire.receive(right)


def test_a_cut_frame_is_the_end():
    left, right = socket.socketpair()
    with right:
        left.sendall(b"\0\0\0\x09{}")
        left.close()
        with pytest.raises(wire.Closed):
            wire.receive(right)


def test_a_nest_of_json_is_refused():
    left, right = socket.socketpair()
    with left, right:
        body = b'{"value":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
        left.sendall(len(body).to_bytes(4, "big") + body)
        with pytest.raises(wire.BadFrame):
            wire.decode(wire.receive(right)["value"])
