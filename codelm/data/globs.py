"""Glob patterns of paths, by the rules of .gitignore without its `!`."""

import re
from collections.abc import Callable


def compile_globs(patterns: list[str]) -> Callable[[str], bool]:
    """A function that says whether a path matches one of the patterns.

    `*` and `?` stay within a name, `**` crosses folders; a pattern without `/` matches a name at any depth; one that
    matches a folder matches everything in it.
    """
    if not patterns:
        return lambda path: False
    expression = re.compile("|".join(_glob_expression(pattern) for pattern in patterns), re.DOTALL)
    return lambda path: expression.match(path) is not None


def _glob_expression(pattern: str) -> str:
    anchored = "/" in pattern.rstrip("/")
    tokens = re.findall(r"\*\*/|/\*\*|\*\*|\*|\?|\[(?![!^]])[^]/]+]|.", pattern.strip("/"), re.DOTALL)
    translated = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    body = "".join(translated.get(token) or _class_or_literal(token) for token in tokens)
    return f"(?:{'' if anchored else '(?:.*/)?'}{body}(?:/.*)?$)"


def _class_or_literal(token: str) -> str:
    if len(token) > 1 and token.startswith("["):
        negated = token[1] in "!^"
        listed = "".join(one if one == "-" else re.escape(one) for one in token[1 + negated : -1])
        body = f"[{'^' * negated}{listed}]"
        try:
            re.compile(body)
        except re.error:  # a range that runs backwards matches nothing
            return "(?!)"
        return body
    return re.escape(token)
