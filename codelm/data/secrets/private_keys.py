"""Private keys in PEM, OpenSSH, PGP and PuTTY form: the encoded part goes, its frame stays."""

import re
from collections.abc import Iterator

from codelm.data.secrets.view import View

_BEGIN = re.compile(
    rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----"
    rb"|Private-Lines: \d+"
)
# What may stand between the frame's lines: base64, headers, and what string literals put around and between lines.
_BODY = re.compile(
    rb"(?:(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash):[^\n\\]{0,200}|[\s\"'`,;+\\*#|>.A-Za-z0-9/=])*"
)
_END = re.compile(rb"-----END |---- END ")
_ENCODED = re.compile(rb"[A-Za-z0-9+/=]{16,}")
_AROUND = b" \t\r\n\"'`,;+\\*#|>."


def find_private_keys(view: View) -> Iterator[tuple[str, int, int]]:
    """Kind, start and end of the encoded part of each private key."""
    data = view.data
    if b"PRIVATE KEY" not in data and b"Private-Lines" not in data:
        return
    position = 0
    while begin := _BEGIN.search(data, position):
        match = _BODY.match(data, begin.end())
        position = match.end() if match else begin.end()
        # Escaped line ends would look like letters of the key.
        body = data[begin.end() : position].replace(b"\\n", b"  ").replace(b"\\r", b"  ")
        encoded = _ENCODED.search(body)
        if encoded:
            yield "private_key", begin.end() + encoded.start(), begin.end() + len(body.rstrip(_AROUND))
        elif _END.match(data, position) and body.startswith((b"\n", b"\r")) and body.strip():
            yield "private_key", begin.end() + len(body) - len(body.lstrip()), begin.end() + len(body.rstrip())
