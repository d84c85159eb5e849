"""Tokens of a known form, and quoted strings that look random, among the long words of a text.

A random string in quotes is most often a hash, a test vector or encoded data. BigCode keeps strings of 32, 40 or 64
characters in a line that names a hash, all strings of a file that names one in 2 % of its lines, UUIDs, and what is
assigned to an id. Here any random string in such a line is kept, and so are the names of cloud resources and
strings longer than `_MOST` (data, not keys).
"""

import base64
import json
import re
from collections.abc import Iterator

from codelm.data.secrets.patterns import AFTER_DOT, DOTTED, DOTTED_HEAD, LITERALS, WORDS
from codelm.data.secrets.values import is_hex, is_random
from codelm.data.secrets.view import WORD, View

_LONG_WORD = 16
_LEAST_BASE64, _LEAST_HEX, _MOST = 20, 32, 256
# Random base64 has a separator in 32 characters, words joined by them have more.
_LEAST_SEGMENT = 8
_SEPARATORS = re.compile(rb"[-_/+]+")
# UUIDs and their like in documentation, cloud resources (subnet-08e8943905b63a683), NAME=value.
_IDENTIFIER = re.compile(
    rb"[0-9a-zA-Z]{8}-(?:[0-9a-zA-Z]{4}-){3}[0-9a-zA-Z]{12}|(?:[a-z]+-)+[0-9a-f]{8,40}|.*=[^=].*|(?i:.*example.*)"
)
_NAMED_ID = re.compile(rb"ids?\\?[\"']?\]?\s{0,3}[:=>]{1,2}\s{0,3}\\?[\"'`]\Z")
_MOST_HASH_LINES = 0.02
_QUOTES = b"\"'`"
_HASH = re.compile(
    rb"sha|md5|hash|checksum|digest|integrity|commit|\brev|uuid|guid|etag|fingerprint|byte|crc|base64|hex|decode|signature"
)


def find_tokens(view: View) -> Iterator[tuple[str, int, int]]:
    """Kind, start and end of each token that its maker's form gives away."""
    data = view.data
    for kind, pattern in LITERALS:
        for match in pattern.finditer(data):
            yield kind, *match.span()
    for start, end in zip(*view.runs(WORD, _LONG_WORD), strict=True):
        for match in WORDS.finditer(data, start, end):
            yield match.lastgroup or "", *match.span()
        if data[start - 1 : start] == b"." and (match := AFTER_DOT.match(data, start)):
            yield match.lastgroup or "", *match.span()
        if data[end : end + 1] == b"." and (head := DOTTED_HEAD.search(data, start, end)):
            match = DOTTED.match(data, head.start())
            if match and (match.lastgroup != "jwt" or _is_jwt(match[0])):
                yield match.lastgroup or "", *match.span()


def _is_jwt(token: bytes) -> bool:
    """Whether the header is a JSON object; a signed or encrypted body need not be text."""
    header = token.split(b".")[0].rstrip(b"=")
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(header + b"=" * (-len(header) % 4))), dict)
    except (ValueError, RecursionError):
        return False


def find_random_strings(view: View) -> Iterator[tuple[str, int, int]]:
    """Long words between quotes that look random and are no hash; none in a file that deals with hashes."""
    if max(view.low.count(b"sha"), view.low.count(b"hash")) > max(1, _MOST_HASH_LINES * view.low.count(b"\n")):
        return
    for start, end in zip(*view.runs(WORD, _LEAST_BASE64), strict=True):
        if start == 0 or end - start > _MOST or view.data[start - 1] not in _QUOTES:
            continue
        quote = view.data[start - 1 : start]
        if not view.data.startswith((quote, b"\\" + quote), end):
            continue
        value = view.data[start:end]
        if _IDENTIFIER.fullmatch(value) or (is_hex(value) and len(value) < _LEAST_HEX) or not is_random(value):
            continue
        if len(value) < _LEAST_SEGMENT * len(_SEPARATORS.split(value)):
            continue
        if not _NAMED_ID.search(view.low, max(0, start - 12), start) and not _HASH.search(
            view.low, view.line_start(start, 200), view.line_end(end, 80)
        ):
            yield "random_string", start, end
