"""Whether a string looks drawn at random (a key) or written by a person (a name, a path, a sentence).

The test is how likely each character is to follow the one before it. `_COSTS` holds the bits, 0 to 9, that a pair of
characters costs, counted over the words of 7,800 source files in 20 languages; case is ignored and all digits are one
symbol. Words cost 3.5 to 4.5 bits a pair, random letters and digits about 6. Of random base-62 strings of 20
characters 1 % fall below 4.8, of words of 16 letters and more 1 % lie above 4.5.
"""

import re
from collections import Counter
from itertools import pairwise
from math import log2

_SYMBOLS = "abcdefghijklmnopqrstuvwxyz0"
# fmt: off
_COSTS = (
    "844487595973449593436686695", "365636894592774895464999593", "376737935944782794635999794",
    "355426773885674695555778794", "464465686985537573338664695", "476643892994773894554999793",
    "576717544995655794455889996", "286728993996673795645899793", "564456599984423595439597959",
    "377428885877673668363789995", "555525973685655685355769795", "376527893984883798544789595",
    "257628894996554398565799795", "474335384966764697435699797", "654586696964425493544647999",
    "376537865983773493545896697", "787878998993879867681999995", "375527593966563794446689597",
    "584727853966775577424879696", "375626843996674694456779597", "545636695994437493438998995",
    "297818883996786697678899993", "365636842966744793467879996", "564635964996576397628886792",
    "554546775973445296347769775", "488716974997284898788989556", "665566959996999899899595960",
)
# fmt: on
_PAIRS = {
    (ord(a), ord(b)): int(cost)
    for a, row in zip(_SYMBOLS, _COSTS, strict=True)
    for b, cost in zip(_SYMBOLS, row, strict=True)
}
_FOLD = bytes.maketrans(b"123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"000000000abcdefghijklmnopqrstuvwxyz")
# A random string of this many characters costs at least this much in 98 cases of 100.
_LEAST_COST, _LEAST_COST_SHORT, _LONG = 4.8, 5.2, 20
_SEQUENCE = 7
_LEAST_ENTROPY, _LEAST_HEX_ENTROPY = 3.3, 2.9

_HEX = re.compile(rb"(?:0x)?(?:[0-9a-f]{16,}|[0-9A-F]{16,})")
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_TEMPLATE = re.compile(
    rb"\$[\w.:>-]+|%[\w-]+%|%[a-z]|__\w+__|\{.*\}|<.*>|\[.*\]|\(.*\)|\$\(.*\)|\$\{.*\}"
    rb"|.*(?:\$\{[\w.]+\}|\{\{ ?[\w.]+ ?\}\}|%s|%\(\w+\)s|\#\{|\{[A-Za-z_][\w.]{2,}\})[^\n]*"
)
_PLACEHOLDER = re.compile(
    rb"pass|secret|token|(?<![a-z])key|apikey|pwd|(?<![a-z])user|example|sample|change|placeholder|insert|your|dummy|fake|mock|xxxx|\*\*\*|\.\.\.|todo"
    rb"|null|none|undefined|true|false|string|value|redacted|hidden|unknown|default|required|invalid|1234567|abcdef"
)
_NAME = re.compile(rb"[A-Za-z_$@.#][\w$]*(?:[-./:\\ |][\w$]*)*\d{0,2}")
_NUMBERS = re.compile(rb"\d{1,7}|[\d.]+")
_TRAILING_NUMBER = re.compile(rb"[A-Za-z_-]+[-_.]?\d{1,2}")
_STRONG_SYMBOLS = frozenset(b"!@#$%^&*?~+=")


def pair_cost(value: bytes) -> float:
    """Mean bits of the pairs of letters and digits in `value`; 0 where there is no pair."""
    folded = value.translate(_FOLD)
    costs = [_PAIRS[pair] for pair in pairwise(folded) if pair in _PAIRS]
    return sum(costs) / len(costs) if costs else 0.0


def entropy(value: bytes) -> float:
    """Shannon's entropy of the characters, in bits."""
    return -sum(count / len(value) * log2(count / len(value)) for count in Counter(value).values())


def is_sequence(value: bytes) -> bool:
    """An alphabet or a row of digits: seven characters in a row that follow each other in ASCII."""
    row = 0
    for a, b in pairwise(value):
        row = row + 1 if b - a == 1 else 0
        if row == _SEQUENCE - 1:
            return True
    return False


def is_uuid(value: bytes) -> bool:
    return _UUID.fullmatch(value) is not None


def is_hex(value: bytes) -> bool:
    """At least 16 hexadecimal digits of one case and nothing else."""
    return _HEX.fullmatch(value) is not None


def is_random(value: bytes) -> bool:
    """Whether `value` (12 characters or more) looks drawn by a machine."""
    if len(value) < 12 or is_sequence(value):
        return False
    if is_hex(value):
        return entropy(value) >= _LEAST_HEX_ENTROPY and not value.isdigit()
    if is_uuid(value):
        return True
    if entropy(value) < _LEAST_ENTROPY:
        return False
    if _switches(value) * 5 >= len(value):
        return True
    return pair_cost(value) >= (_LEAST_COST if len(value) >= _LONG else _LEAST_COST_SHORT)


def is_password(value: bytes) -> bool:
    """Whether a string that code calls a password is one, not a name, a label, a path or a template."""
    if len(value) < 6 or any(byte <= 32 for byte in value) or not any(chr(byte).isalnum() for byte in value):
        return False
    if (
        b"://" in value
        or value.startswith((b"/", b"./", b"../", b"arn:"))
        or _NUMBERS.fullmatch(value)
        or is_template(value)
        or is_placeholder(value)
    ):
        return False
    if is_random(value):
        return True
    digits = sum(48 <= byte <= 57 for byte in value)
    letters = sum(chr(byte).isalpha() for byte in value)
    if not letters:
        return digits >= 8
    if any(byte in _STRONG_SYMBOLS for byte in value[1:]):
        return True
    if digits and not _TRAILING_NUMBER.fullmatch(value):
        return not _NAME.fullmatch(value) or digits >= 3 or _switches(value) >= 2
    return False


def is_template(value: bytes) -> bool:
    """`${X}`, `{{x}}`, `%s`, `<password>`, `$VAR`: filled in elsewhere."""
    return _TEMPLATE.fullmatch(value) is not None


def is_placeholder(value: bytes) -> bool:
    """A short string that says itself that it is none: `changeme`, `your-api-key`, `my_password_2`."""
    return len(value) < 24 and _PLACEHOLDER.search(value.lower()) is not None


def _switches(value: bytes) -> int:
    """How often a letter stands next to a digit."""
    kinds = value.translate(_SWITCHES)
    return kinds.count(b"a0") + kinds.count(b"0a")


_SWITCHES = bytes(
    ord("0") if 48 <= byte <= 57 else ord("a") if chr(byte).isalpha() and byte < 128 else 32 for byte in range(256)
)
