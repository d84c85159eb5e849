"""E-mail addresses, IP addresses, and the passwords in URLs.

Kept, because they name no person and no machine: addresses of the domains that RFC 2606 reserves, `git@host` and
`noreply@host`, file names such as `icon@2x.png`; IP addresses that are not global (private, loopback, documentation,
multicast …), the well-known name servers, networks (`52.95.0.0/16`), and four numbers that are a version. BigCode
keeps the same IP addresses, but networks and versions only where all four numbers have one digit.
"""

import ipaddress
import re
from collections.abc import Iterator

import numpy as np

from codelm.data.secrets.values import is_template
from codelm.data.secrets.view import ADDRESS, DIGIT, LOCAL, View

# fmt: off
_NAME_SERVERS = frozenset((
    "8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "76.76.19.19", "76.223.122.150", "9.9.9.9", "149.112.112.112",
    "208.67.222.222", "208.67.220.220", "8.26.56.26", "8.20.247.20", "94.140.14.14", "94.140.15.15",
    "2001:4860:4860::8888", "2001:4860:4860::8844", "2606:4700:4700::1111", "2606:4700:4700::1001", "2620:fe::fe",
))
# What follows `@` in file names and code rather than in addresses.
_NO_TOP_LEVEL = frozenset((
    b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"ico", b"bmp", b"pdf", b"css", b"scss", b"sass", b"less", b"js",
    b"jsx", b"mjs", b"cjs", b"ts", b"tsx", b"vue", b"json", b"html", b"htm", b"xml", b"yml", b"yaml", b"toml", b"rst",
    b"txt", b"rb", b"go", b"java", b"php", b"cpp", b"hpp", b"hh", b"sql", b"tar", b"tgz", b"gz", b"jar", b"whl",
    b"lock", b"value", b"text", b"data", b"length", b"self", b"type", b"array", b"class", b"service",
))
# fmt: on
_LOCAL_PART = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_.%+-]{0,63}\Z")
_DOMAIN = re.compile(
    rb"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?P<top>[A-Za-z]{2,24})(?![\w(@-]|\.[A-Za-z])"
)
_RESERVED_DOMAIN = re.compile(rb"(?:.*\.)?(?:example(?:\.\w+)?|test|invalid|localhost|local|localdomain|domain\.\w+)")
_RESERVED_NAME = frozenset({b"git", b"hg", b"svn", b"noreply", b"no-reply", b"donotreply"})
_CREDENTIALS = re.compile(rb"://[^\s:/?#\[\]@\"'<>`\\]{0,100}:(?P<value>[^\s/?#@\"'<>`\\]{1,200})\Z")
_NUMBER = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rb"(?<![\w.-])(?:" + _NUMBER + rb"\.){3}" + _NUMBER + rb"(?![\w-]|\.\w)")
# Global unicast addresses, the only ones given out, lie in 2000::/3.
_IPV6 = re.compile(rb"[23][0-9a-fA-F]{3}(?::[0-9a-fA-F]{0,4}){3,7}")
_VERSION = re.compile(rb"\bv\.?\Z|version|release|\brev|\bver\b|firmware|chrome|safari|build|section|\bsec\b|\boid\b")
# A number or many before it: coordinates of a drawing. A folder before it: a version in a path.
_NO_ADDRESS = re.compile(
    rb"(?:^|[^\w.])[a-z]?-?\d*\.?\d+[ ,]\Z|\w/\Z"
    rb"|(?:[a-z]?[ ,-]{0,2}(?>\d+(?:\.\d+)?|\.\d+)){5}[a-z]?[ ,-]?\Z"
)
_HOST = re.compile(rb"dns|server|host|\bip\b|ipv4|addr|http|ping")


def find_at_signs(view: View) -> Iterator[tuple[str, int, int]]:
    """E-mail addresses, and passwords of `scheme://user:password@host`."""
    at = np.flatnonzero(view.codes[1:-1] == ord("@")) + 1
    at = at[(view.classes[at - 1] & LOCAL) != 0]
    for position in at.tolist():
        scheme = view.data.rfind(b"://", max(0, position - 320), position)
        if scheme >= 0 and (match := _CREDENTIALS.match(view.data, scheme, position)):
            kind = "cloudant" if b".cloudant.com" in view.data[position : position + 80] else "url_password"
            if not is_template(match["value"]):
                yield kind, *match.span("value")
            continue
        local = _LOCAL_PART.search(view.data, max(0, position - 64), position)
        domain = _DOMAIN.match(view.data, position + 1)
        if local and domain and _is_person(local[0].lower(), domain[0].lower(), domain["top"].lower()):
            yield "email", local.start(), domain.end()


def _is_person(local: bytes, domain: bytes, top: bytes) -> bool:
    return local not in _RESERVED_NAME and top not in _NO_TOP_LEVEL and not _RESERVED_DOMAIN.fullmatch(domain)


def find_ip_addresses(view: View) -> Iterator[tuple[str, int, int]]:
    """Global IPv4 and IPv6 addresses, without their ports."""
    digit = (view.classes & DIGIT) != 0
    dots = np.flatnonzero((view.codes[1:-1] == ord(".")) & digit[:-2] & digit[2:]) + 1
    if len(dots) >= 3:
        gaps = np.diff(dots)
        for first in dots[:-2][(gaps[:-1] <= 4) & (gaps[1:] <= 4)].tolist():
            start = first - 1
            while start > max(0, first - 3) and view.data[start - 1 : start].isdigit():
                start -= 1
            match = _IPV4.match(view.data, start)
            if not match or (match[0].endswith(b".0") and view.data[match.end() : match.end() + 1] == b"/"):
                continue
            if _is_machine(match[0].decode()) and not _is_version(view, start, match[0]):
                yield "ip", start, match.end()
    for start, end in zip(*view.runs(ADDRESS, 8), strict=True):
        if (
            view.data.count(b":", start, end) >= 3
            and not (view.data[start - 1 : start] + view.data[end : end + 1]).isalnum()
        ):
            match = _IPV6.fullmatch(view.data, start, end)
            if match and _is_machine(match[0].decode()):
                yield "ip", start, end


def _is_machine(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast and text not in _NAME_SERVERS


def _is_version(view: View, start: int, address: bytes) -> bool:
    before = view.low[view.line_start(start, 40) : start]
    if _VERSION.search(before) or _NO_ADDRESS.search(before):
        return True
    numbers = address.split(b".")
    small = all(len(number) == 1 for number in numbers) or (numbers[-1] == b"0" and len(numbers[0]) == 1)
    return small and not _HOST.search(view.low[view.line_start(start, 100) : view.line_end(start, 100)])
