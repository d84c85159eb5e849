"""Which licences a text is or grants: licence files, and the notices that files begin with.

Texts are compared as words in lower case without punctuation, wherever lines break and whatever marks the comments.
Licences are known by phrases (`licence_phrases`), by name and version, and the GNU family by its own rules.
"""

import re

from codelm.data.licences.gnu import gnu_licences
from codelm.data.licences.phrases import MARKS
from codelm.spdx.expressions import combine, parse_licence
from codelm.spdx.ids import ALL_RIGHTS_RESERVED, PROPRIETARY, PUBLIC_DOMAIN, is_known

_NOTICE = 6000
"""Characters of normalised words that a notice has at most."""
_CHOICES = 4
"""Licences among which a notice lets choose at most; more are a list of what is bundled."""
_OWN_PART = 800
"""Characters of a licence file that are the project's own in any case."""

_PUNCTUATION = {code: " " for code in range(128) if not chr(code).isalnum() and chr(code) != "+"} | dict.fromkeys(
    map(ord, "“”‘’«»–—©®·•"), " "
)

_VERSIONED = {
    "mozilla public": "MPL",
    "mozilla org mpl": "MPL",
    "mpl": "MPL",
    "eclipse public": "EPL",
    "eclipse org legal epl": "EPL",
    "epl": "EPL",
    "common public": "CPL",
    "common development and distribution": "CDDL",
    "cddl": "CDDL",
    "academic free": "AFL",
    "open software": "OSL",
    "artistic": "Artistic",
    "european union public": "EUPL",
    "eupl": "EUPL",
    "apache": "Apache",
    "apache software": "Apache",
    "apache org licenses": "Apache",
    "business source": "BUSL",
    "elastic": "Elastic",
    "boost software": "BSL",
    "zope public": "ZPL",
    "sil open font": "OFL",
    "openldap public": "OLDAP",
    "php": "PHP",
}
_NAME_AND_VERSION = re.compile(
    rf"\b({'|'.join(sorted(_VERSIONED, key=len, reverse=True))})(?: licen[cs]e)?"
    r"(?: (?:mpl|epl|cddl|asl|osl|afl|zpl|ofl))?(?: (?:v|version|ver))? ?v?(\d)(?: ?(\d{1,2}))?\b"
)
_APACHE_TEXT = "version 2 0 january 2004 http www apache"
_LLVM = re.compile(r"llvm exception|embedded into an object form of such source code")
_THESE_SPEAK_OF_GNU = {
    "MPL-2.0",
    "EPL-2.0",
    "Vim",
    "EUPL-1.2",
    "CDDL-1.0",
    "CDDL-1.1",
    "Apache-2.0 WITH LLVM-exception",
}

_GFDL = re.compile(r"(?:gnu free documentation licen[cs]e|\bgfdl)(?: version)? ?1 ([123])(.{0,60}any later version)?")
_CREATIVE_COMMONS = re.compile(
    r"creativecommons org licenses (by(?: nc)?(?: sa| nd)?) (\d) (\d)|\bcc (by(?: nc)?(?: sa| nd)?) (\d) (\d)"
    r"|(attribution(?: non ?commercial)?(?: share ?alike| no ?deriv(?:ative)?s)?) "
    r"(?:licen[cs]e )?(?:v ?|version )?(\d) (\d)\b"
)
_CREATIVE_COMMONS_WORDS = {
    "attribution": "by",
    "non ?commercial": "nc",
    "share ?alike": "sa",
    "no ?deriv(ative)?s": "nd",
}
_PERL = re.compile(r"same (?:terms|licen[cs]e|conditions) as (?:the )?perl")
_PUBLIC_DOMAIN = re.compile(
    r"(?:in|into|to) the public domain|public domain (?:software|code|file|no copyright|stated)|is public domain"
    r"|licen[cs]e public domain|disclaims copyright"
)

_NAMED = re.compile(
    r"(?:\b(?:under|by) (?:the |an? )?(?:terms of )?(?:the )?(?:\w+ ){0,2}?|\blicen[cs]e[sd]?:? (?:under )?(?:the )?"
    r"|\bor (?:the )?(?=\w+(?: \w+)? licen[cs]e))"
    r"(mit(?: x11)?|(?:new |modified |simplified |revised |[23] clause )?bsd(?: style| [23] clause)?|isc|zlib"
    r"|boost software|apache|psf|python software foundation|unlicense|postgresql|php)\b"
)
# One by one, each with a word to begin with: much faster than alternatives.
_CHOICE = [
    re.compile(pattern)
    for pattern in (
        r"dual\b",
        r"alternatively\b",
        r"either (?:of )?(?:the |an? )?(?!version|express|party|source|case)(?:\w+ ){0,4}?licen[cs]e",
        r"at your option(?! any later| use any later)",
        r"your choice\b",
        r"choice of\b",
        r"one of the following\b",
        r"multi(?:ple)? licen[cs]ed",
        r"licen[cs]e(?: version \d(?: \d)?)? or (?:under )?(?:the )?(?:\w+ ){0,4}?licen[cs]e",
        r" or (?<=mit or |bsd or |gpl or |mpl or |2 0 or )(?:the )?(?:mit|bsd|apache|[al]?gpl|mpl|gnu)\b",
        r"apache or (?:the )?(?:mit|bsd|[al]?gpl|mpl|gnu)\b",
        r"mpl 1 1 gpl 2 0",
    )
]

_AGREEMENT = re.compile(
    r"end user licen[cs]e agreement|this licen[cs]e is a legal agreement between you|\beula\b"
    r"|licen[cs]e agreement for nvidia|software licen[cs]e agreement the following contains"
)
_RESERVED = re.compile(r"all rights? (?:are )?reserved")
_STRICT_WORDS = ("proprietary", "confidential", "trade secret", "unauthori", "may not be")
_STRICTLY_RESERVED = re.compile(
    r"proprietary and confidential|confidential and proprietary|strictly confidential|trade secret|company confidential"
    r"|proprietary (?:information|software|licen[cs]e)"
    r"|unauthori[sz]ed (?:copying|use|reproduction|distribution|disclosure)"
    r"|may not be (?:copied|reproduced|used|distributed|disclosed)(?: [a-z]+){0,8} without"
)
_POINTER = re.compile(
    r"licen[cs]e (?:file|txt|md|information|that can be)|full licen[cs]e|org licen[cs]e|(?:found|terms) in the"
    r"|see (?:the )?(?:accompanying )?(?:file )?(?:licen[cs]e|copying|notice|https?)"
)
_BUNDLED = re.compile(
    r"third party (?:software|licen|components|code|notices|libraries)|bundle[sd]?\b|subcomponents|included components"
    r"|submodules|following (?:components|files|libraries|projects|software (?:is|are|may))|taken from|contains code"
    r"|code (?:is )?derived from|portions of this|parts of this|is derived from|are licensed as|licensed separately"
    r"|this (?:project|software|product) (?:includes|contains|incorporates)"
)


def normalise(text: str) -> str:
    """The words of a text in lower case, one space between them."""
    return " ".join(text.lower().translate(_PUNCTUATION).split())


def own_part(words: str) -> str:
    """The words of a licence file up to where it goes on to the licences of what the project bundles."""
    match = _BUNDLED.search(words, _OWN_PART)
    return words[: match.start()] if match else words


def licences_in(words: str) -> str | None:
    """The licences that normalised words are or grant, as an expression; None when there are none.

    Several are a choice (`OR`) when a notice says so, else all apply (`AND`).
    """
    if ("agreement" in words or "eula" in words) and _AGREEMENT.search(words, 0, 1500):
        return PROPRIETARY
    found = [mark.licence for word, marks in MARKS.items() if word in words for mark in marks if mark.fits(words)]
    found += _versioned(words)
    speaks_of_gnu = len(found) <= 2 and not _THESE_SPEAK_OF_GNU.isdisjoint(found)
    if not speaks_of_gnu or (len(words) < _NOTICE and _offers_a_choice(words)):
        found += gnu_licences(words, without_version=not found)
    found += _documentation(words)
    if "perl" in words and _PERL.search(words):
        found.append("Artistic-1.0-Perl OR GPL-1.0-or-later")
    elif "artistic license" in words and "Artistic-2.0" not in found:
        found.append("Artistic-1.0-Perl")
    choice = _offers_a_choice(words) if found else None
    if choice is not False:
        found += [parse_licence(match[1]) or "" for match in _NAMED.finditer(words, 0, _NOTICE)]
    if not found and ("public domain" in words or "disclaims" in words) and _PUBLIC_DOMAIN.search(words):
        found.append(PUBLIC_DOMAIN)
    different = set(found)
    if choice is None and len(different) > 1:
        choice = _offers_a_choice(words)
    return combine(filter(None, found), "OR" if choice and len(different) <= _CHOICES else "AND")


def reservation_in(words: str) -> str | None:
    """The marker of a text that grants nothing and reserves all, or None."""
    if any(word in words for word in _STRICT_WORDS) and _STRICTLY_RESERVED.search(words):
        return PROPRIETARY
    if "reserved" in words and _RESERVED.search(words) and not _POINTER.search(words):
        return ALL_RIGHTS_RESERVED
    return None


def _offers_a_choice(words: str) -> bool:
    return any(pattern.search(words, 0, _NOTICE) for pattern in _CHOICE)


def _versioned(words: str) -> list[str]:
    """Licences with a name and a version, the first of each name."""
    found: dict[str, str] = {}
    for match in _NAME_AND_VERSION.finditer(words):
        name = _VERSIONED[match[1]]
        id = f"{name}-{match[2]}.{match[3] or 0}"
        if is_known(id):
            found.setdefault(name, id)
    if _APACHE_TEXT in words:
        found["Apache"] = "Apache-2.0"
    if found.get("Apache") == "Apache-2.0" and _LLVM.search(words):
        found["Apache"] = "Apache-2.0 WITH LLVM-exception"
    return list(found.values())


def _documentation(words: str) -> list[str]:
    """The GNU free documentation licence, whose text names one of Creative Commons, or the first of those."""
    if ("gfdl" in words or "free documentation" in words) and (match := _GFDL.search(words)):
        return [f"GFDL-1.{match[1]}-{'or-later' if match[2] else 'only'}"]
    if "creative" in words or " cc " in words:
        for match in _CREATIVE_COMMONS.finditer(words):
            kind = match[1] or match[4] or match[7]
            for long, short in _CREATIVE_COMMONS_WORDS.items():
                kind = re.sub(long, short, kind)
            major, minor = (number for number in match.groups() if number and number.isdigit())
            id = f"CC-{kind.upper().replace(' ', '-')}-{major}.{minor}"
            return [id] if is_known(id) else []
    return []
