"""Passwords and keys that are known by the name of what they are assigned to: `db_password = "..."`.

A name is looked for first (`pass`, `secret`, `token`, `key` …), then an assignment behind it in the syntax of any of
the languages: `=`, `:=`, `=>`, `<-`, `:`, typed declarations, comparisons (both ways), arguments, `PASSWORD '…'`.
A quoted value counts when it looks like a password (`codelm.data.secrets.values`); one without quotes must look random,
or stand in a shell's `NAME=value` or in a connection string. Names: the list of detect-secrets' keyword plugin, and
`token`, `passphrase`, `credential`, further `…key`s.
"""

import re
from collections.abc import Iterator

from codelm.data.secrets.values import is_hex, is_password, is_placeholder, is_random, is_template
from codelm.data.secrets.view import View

_ANCHORS = (b"pass", b"pwd", b"_pw", b"secret", b"token", b"key", b"credential", b"contrase", b"identified by")
_REACH = 400
_LEAST_KEY = 20
# The longest leaves room in `_REACH` for what stands before it: a value is taken whole or not at all.
_LEAST_BARE, _MOST_BARE = 6, 256
# What must stand before a bare `key` (x_api_key, privateKey); `key` alone is every dictionary's.
_KEY_OF = re.compile(
    rb"(?:api|auth|access|service|account|db|database|private|priv|client|secret|signing|encrypt(?:ion)?|crypt|master|session"
    rb"|subscription|storage|shared|consumer|application|app|license|security|webhook|deploy|admin|server|ibm|iam|cloud|cloudant"
    rb"|clou|cl|softlayer|sl|cos|hmac|aws|azure|gcp|google|maps|heroku|twilio|sendgrid|mailgun|stripe|algolia|datadog)[_-]?\Z"
)
_PASS_OF = re.compile(rb"(?:db|sql|user|my|root|admin|ftp|smtp|mail|login|key|auth)\Z")
_NAMES = {
    b"pass": re.compile(rb"pass(?:[_-]?w(?:or)?d|phrase|code)?"),
    b"contrase": re.compile(rb"contrase.a"),
}
_ASSIGN = rb"(?:e?s?(?![a-z])[\w-]{0,40}+)[\"'`\]\)}\\]{0,4}+(?:\[\d{0,6}\])?[ \t]{0,40}+"
_QUOTED = re.compile(
    _ASSIGN + rb"(?P<sign>(?:\|\||\?\?|[:=!?+])={1,2}|={1,3}>?|<-|[-=]>"
    rb"|::?(?:[ \t]{0,20}&?'?[\w.<>\[\]?| ]{1,40}=)?|,|(?:\.assign)?\(|\{|value=|[\w.*]{1,20} :?=|(?<=[ \t]))"
    rb"[ \t]{0,40}+\{?(?:[\w:.]{1,40}+\()?(?:@|L|b|u8?|[rR]#?|f|\"(?='))?"
    rb"(?P<quote>\\?[\"'`])(?P<value>[^\"'`\n]{1,300})(?P=quote)"
)
_PLAIN = rb"[^\s\"'`;,&<>(){}\[\]$]*+"
_BARE = re.compile(
    _ASSIGN + rb"(?P<sign>:?=|::?|[ \t]|(?<=[ \t]))[ \t]{0,40}+"
    rb"(?P<value>" + _PLAIN + rb"(?:\$(?![\w({])" + _PLAIN + rb")*+)(?=[\s;,&\"'`<)\]\\]|\Z)"
)
_COMPARED = re.compile(
    rb"(?P<quote>[\"'`])(?P<value>[^\"'`\n]{1,300})(?P=quote)[ \t]{0,20}[!=]={1,2}[ \t]{0,20}[\w.$-]{0,40}\Z"
)
_SHELL_NAME = re.compile(rb"(?:^|\n|export |ENV |-e |set )[ \t]*[A-Z][A-Z0-9_]*\Z")
_IS_LAST = re.compile(rb"[ \t]{0,8}(?:\*/|-->)?[ \t]{0,8}(?:\r?\n|\Z)")

# Kinds by the name: the value alone has no form that would tell its maker.
_MAKERS = tuple(
    (kind, re.compile(name))
    for kind, name in {
        "npm": rb"_authtoken\Z",
        "softlayer": rb"(?:softlayer|(?<![a-z])sl)[_-]?(?:api)?[_-]?(?:key|pass|pwd|token)",
        "cloudant": rb"(?:cloudant|(?<![a-z])clou?)[_-]?(?:api)?[_-]?(?:key|pass|pwd|pw|token)",
        "ibm": rb"ibm|(?<![a-z])iam|(?<![a-z])cos[_-]|cos[_-]?hmac",
        "heroku": rb"heroku",
        "twilio": rb"twilio",
        "azure": rb"azure|accountkey|sharedaccesskey",
        "aws": rb"aws",
    }.items()
)
_LENIENT = frozenset({b"pass", b"pwd", b"_pw", b"secret", b"contrase", b"identified by"})


def find_assignments(view: View) -> Iterator[tuple[str, int, int]]:
    """Kind, start and end of each value; a value may come twice."""
    for anchor in _ANCHORS:
        position = view.low.find(anchor)
        while position >= 0:
            end = position + len(anchor)
            name = _NAMES.get(anchor)
            if name is not None and (match := name.match(view.low, position)):
                end = match.end()
            yield from _values(view, anchor, position, end)
            position = view.low.find(anchor, end)


def _values(view: View, anchor: bytes, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    lenient = anchor in _LENIENT
    for pattern in (_QUOTED, _BARE):
        match = pattern.match(view.data, end, end + _REACH)
        if match and (pattern is _QUOTED or _bare_counts(view, start, match)):
            if anchor == b"key" and not _KEY_OF.search(view.low, max(0, start - 16), start):
                return
            if anchor == b"pass" and end - start == len(anchor) and not _is_short_password(view, start, match):
                return
            if not match["sign"].strip() and not _opens(view, match):
                return
            first, last = match.span("value")
            if _counts(view.data[first:last], lenient or (anchor == b"key" and pattern is _QUOTED)):
                yield _kind(view, anchor, start, end), first, last
            return
    compared = view.data.rfind(b"=", max(0, start - 48), start)
    if compared > 0 and view.data[compared - 1] in b"=!":
        least = view.line_start(start, _REACH)
        match = _COMPARED.search(view.data, least, start)
        if match and _counts(match["value"], lenient or anchor == b"key"):
            yield _kind(view, anchor, start, end), *match.span("value")


def _is_short_password(view: View, start: int, match: re.Match[bytes]) -> bool:
    """Whether a bare `pass` is a password: `db_pass =`, `dbPass =`; not `bypass(`, `you can pass "x"`."""
    before = view.low[max(0, start - 5) : start]
    return bool(match["sign"].strip()) and (
        not before[-1:].isalpha() or view.data[start : start + 1] == b"P" or _PASS_OF.search(before) is not None
    )


def _opens(view: View, match: re.Match[bytes]) -> bool:
    """Whether the quote of a match opens a string rather than closes one, judged by those before it in the line."""
    if match.re is _BARE:
        return True
    position = match.start("quote")
    return view.data.count(match["quote"], view.line_start(position, _REACH), position) % 2 == 0


def _counts(value: bytes, lenient: bool) -> bool:
    if lenient:
        return is_password(value)
    return len(value) >= _LEAST_KEY and (is_hex(value) or is_random(value)) and not is_template(value)


def _bare_counts(view: View, start: int, match: re.Match[bytes]) -> bool:
    value = match["value"]
    if not _LEAST_BARE <= len(value) <= _MOST_BARE or is_placeholder(value):
        return False
    if len(value) >= 20 and not _looks_like_code(value) and (is_random(value) or is_hex(value)):
        return True
    if match["sign"] == b":" and _IS_LAST.match(view.data, match.end()):
        return len(re.findall(rb"\d", value)) >= 3 or not value.isalnum()
    if match["sign"] != b"=" or view.data[match.start("value") - 1 : match.start("value")] != b"=":
        return False
    line = view.line_start(start, 200)
    in_shell = _SHELL_NAME.search(view.data, line, match.start("sign")) is not None
    in_connection = re.search(rb"\w=[^;&\s\"']{1,80}[;&][\w ]{0,20}\Z", view.data[line:start]) is not None
    return in_shell or in_connection


def _looks_like_code(value: bytes) -> bool:
    """Attributes, paths, URLs; base64 has a slash in 64 characters."""
    return re.search(rb"[.:\\|*]", value) is not None or len(value) < 16 * value.count(b"/")


def _kind(view: View, anchor: bytes, start: int, end: int) -> str:
    name = view.low[max(view.line_start(start, 40), start - 40) : end]
    name = name[max(name.rfind(character) for character in b" \t\"'([{,;:") + 1 :]
    for kind, pattern in _MAKERS:
        if pattern.search(name):
            return kind
    return "password" if anchor in (b"pass", b"pwd", b"_pw", b"contrase", b"identified by") else "secret"
