"""Which language a file is when its extension does not tell: `.h`, `.ts`, `.md`, `.rs`, `.r`, `.php`, or has none.

GitHub linguist knows the rivals of each extension; here each has one rule on the text. What stays with its extension,
as in The Stack: `.js` that holds JSX is JavaScript, templates (Django, Jinja, Vue) in `.html` are HTML, `.sql` is SQL
in every dialect. The Stack itself takes every `.h` for C; here C++ headers are C++.
"""

import re
from collections.abc import Callable

from codelm.data.rules.gitattributes import NOTHING_SAID, Attributes
from codelm.languages import extension_of, language_by_name, language_of, language_of_script, may_be_script

# Possessive: else every character of a long string is remembered, for a step back that cannot help.
_COMMENTS_AND_STRINGS = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)" r'|"(?:[^"\\\n]++|\\.)*+"' r"|'(?:[^'\\\n]++|\\.)*+'", re.DOTALL
)
# Every line's start is looked for as its newline: a literal first character makes the searches several times faster.
_OBJECTIVE_C = re.compile(
    r"\n[ \t]*(?:@(?:interface|implementation|protocol|property|class|end|optional|required)\b|#[ \t]*import[ \t])"
)
# Statements that C has not. `extern "C"` alone is how headers of C serve C++.
_CPP_LINES = re.compile(
    r"\n[ \t]*(?:template[ \t]*<|namespace\b(?:[ \t]+[\w:]+)?[ \t\n]*\{"
    r"|using[ \t]+(?:namespace[ \t]+)?\w+|friend[ \t]+\w"
    r"|class(?:[ \t]+\w+)*[ \t]+\w+[ \t\n]*[;:{]|class[ \t]+\w+[ \t]*(?:\([^)\n]*\)[ \t]*)?\w+[ \t\n]*[;:{]"
    r"|(?:public|protected|private)(?:[ \t]+\w+)?[ \t]*:|virtual[ \t]+\w|explicit[ \t]+\w|constexpr[ \t]+\w"
    r"|(?:static|inline)[ \t]+constexpr\b|enum[ \t]+(?:class|struct)\b"
    r"|(?:struct|class)[ \t]+(?:\w+[ \t]+)?\w+[ \t]*(?:final[ \t]*)?:[ \t]*(?:public|protected|private|virtual)\b"
    r"|#[ \t]*include[ \t]*<(?:algorithm|array|atomic|bitset|cassert|cctype|cmath|chrono|cstdarg|cstddef|cstdint|cstdio"
    r"|cstdlib|cstring|deque|exception|fstream|functional|initializer_list|iomanip|ios|iosfwd|iostream|istream|iterator"
    r"|limits|list|map|memory|mutex|new|numeric|optional|ostream|queue|set|sstream|stack|stdexcept|streambuf|string"
    r"|string_view|thread|tuple|type_traits|typeinfo|unordered_map|unordered_set|utility|variant|vector)>)"
)
_CPP_WORDS = {
    "::": re.compile(r"\w::~?\w"),
    "operator": re.compile(r"\boperator[ \t]*(?:[-+*/%=<>!&|^~]|\(\)|\[\]|new\b|delete\b)"),
    "_cast": re.compile(r"\b(?:static|const|dynamic|reinterpret)_cast[ \t]*<"),
    "nullptr": re.compile(r"\bnullptr\b"),
    "default": re.compile(r"=[ \t]*default[ \t]*;"),
    "delete": re.compile(r"=[ \t]*delete[ \t]*;"),
}
# What `#ifdef __cplusplus` guards is written for C++ in headers of C.
_FOR_CPP_ONLY = re.compile(
    r"\n[ \t]*#[ \t]*if(?:def[ \t]+|[ \t]+defined[ \t]*\(?[ \t]*)__cplusplus\b"
    r".*?(?:\n[ \t]*#[ \t]*(?:endif|else|elif)\b|\Z)",
    re.DOTALL,
)
_REBOL = re.compile(r"^\s*rebol\s*\[", re.IGNORECASE | re.MULTILINE)
_REZ = re.compile(
    r"^[ \t]*(?:resource|data|type)\s+'[^'\n]{4}'\s*[({]|#include\s+[\"<](?:Types|Carbon/Carbon)\.r", re.MULTILINE
)
_RENDERSCRIPT = re.compile(r"^[ \t]*#pragma[ \t]+(?:version|rs)\b", re.MULTILINE)
_COMPONENT_PASCAL = re.compile(r"\s*+(?:(?>\(\*.*?\*\))\s*+)*+MODULE\s+\w+\s*;", re.DOTALL)
_HEAD = 4096


def may_have_language(path: str, attributes: Attributes = NOTHING_SAID) -> bool:
    """Whether a file is worth reading: by its path alone it may be of one of the 20 languages."""
    if attributes.language is not None:
        return language_by_name(attributes.language) is not None
    return language_of(path) is not None or may_be_script(path)


def decide_language(path: str, text: str, attributes: Attributes = NOTHING_SAID) -> str | None:
    """The name of the language of a file, or None when it is none of the 20.

    By `linguist-language` of .gitattributes, else by its path, and by its text where the path leaves a choice.
    """
    if attributes.language is not None:
        named = language_by_name(attributes.language)
        return named.name if named else None
    language = language_of(path)
    if language is None:
        script = language_of_script(text) if may_be_script(path) else None
        return script.name if script else None
    extension = extension_of(path)
    decide = _RULES.get(extension) or _RULES.get(extension.lower())
    return decide(text, language.name, path) if decide else language.name


def is_cpp(text: str) -> bool:
    """Whether a text of the C family has statements that only C++ has, outside comments and `#ifdef __cplusplus`."""
    return _has_cpp(_code_of(text))


def _code_of(text: str) -> str:
    """The text from a newline on, without comments, the insides of strings, and what only C++ compilers see."""
    code = "\n" + _COMMENTS_AND_STRINGS.sub(_blank, text)
    return _FOR_CPP_ONLY.sub("", code) if "__cplusplus" in code else code


def _blank(match: re.Match[str]) -> str:
    return '""' if match[0][0] in "\"'" else " "


def _has_cpp(code: str) -> bool:
    return _CPP_LINES.search(code) is not None or any(
        word in code and pattern.search(code) is not None for word, pattern in _CPP_WORDS.items()
    )


def _header(text: str, language: str, path: str) -> str | None:
    code = _code_of(text)
    if _OBJECTIVE_C.search(code):
        return None
    return "cpp" if _has_cpp(code) else "c"


def _capital_c(text: str, language: str, path: str) -> str | None:
    # DOS wrote every name in capitals; C++ is told from C by the extension's case elsewhere.
    name = path.rpartition("/")[2]
    if name != name.upper():
        return language
    return "cpp" if is_cpp(text) else "c"


def _typescript(text: str, language: str, path: str) -> str | None:
    head = text[:_HEAD].lstrip().lower()
    translations = head.startswith(("<?xml", "<!doctype ts", "<ts ", "<ts>"))
    packets = len(text) > 376 and text[0] == text[188] == text[376] == "G" and not text[:376].isprintable()
    return None if translations or (packets and "\n" not in text[:188]) else language


def _markdown(text: str, language: str, path: str) -> str | None:
    """GCC's machine descriptions are Lisp: comments `;;`, then `(define_…`."""
    head = text[:_HEAD].lstrip()
    return None if head.startswith((";;", "(define_")) else language


def _rust(text: str, language: str, path: str) -> str | None:
    return None if text[:_HEAD].lstrip().startswith("<?xml") or _RENDERSCRIPT.search(text) else language


def _r(text: str, language: str, path: str) -> str | None:
    return None if _REBOL.search(text[:_HEAD]) or _REZ.search(text) else language


def _unless_hack(text: str, language: str, path: str) -> str | None:
    return None if "<?hh" in text[:_HEAD] else language


def _unless_pascal(text: str, language: str, path: str) -> str | None:
    return None if _COMPONENT_PASCAL.match(text) else language


_RULES: dict[str, Callable[[str, str, str], str | None]] = {
    ".h": _header,
    ".C": _capital_c,
    ".H": _capital_c,
    ".ts": _typescript,
    ".tsx": _typescript,
    ".mts": _typescript,
    ".md": _markdown,
    ".rs": _rust,
    ".r": _r,
    ".php": _unless_hack,
    ".hh": _unless_hack,
    ".cp": _unless_pascal,
}
