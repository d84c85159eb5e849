"""Expressions of several licences, as SPDX writes them and as people do.

An expression is an identifier, or operands with `AND` or `OR` between them; `WITH` names an exception to an identifier.
"""

import re
from collections.abc import Callable, Iterable

from codelm.spdx.ids import EXCEPTIONS, canonical_id, id_of_name

_SEPARATORS = (
    (r"\s+or\s+(?!later|newer|any|greater|revised)|\s*\|+\s*", "OR"),
    (r"\s+and\s+(?!disc|dist)|\s*[,;&]\s*", "AND"),
    (r"/", "OR"),
)


def parse_licence(text: str) -> str | None:
    """The expression in canonical spelling of an SPDX expression or of what people write instead; None if unclear.

    People write `MIT/Apache-2.0`, `GPL-2 | GPL-3`, `LGPL-3+ or GPL-2+`, `MIT + file LICENSE`, classifiers of PyPI.
    """
    text = " ".join(re.sub(r"[+|] file \S+", "", text).split()).strip(" \"'.,;")
    if not text or len(text) > 500:
        return None
    if expression := _Parser(text).whole():
        return expression
    if known := id_of_name(text):
        return known
    for pattern, operator in _SEPARATORS:
        parts = re.split(pattern, text.strip("()"), flags=re.IGNORECASE)
        if len(parts) > 1:
            known_parts = [parse_licence(part) for part in parts if part.strip()]
            return combine([part for part in known_parts if part], operator) if all(known_parts) else None
    if match := re.fullmatch(r"([^()]+)\(([^()]+)\)", text):
        return parse_licence(match[2]) or parse_licence(match[1])
    if match := re.fullmatch(r"(.+?) with (?:the )?(.+?)[ -]exceptions?", text, re.IGNORECASE):
        base, named = parse_licence(match[1]), match[2].lower().replace(" ", "-")
        exception = next((one for one in EXCEPTIONS if one.lower().startswith(f"{named}-exception")), None)
        return f"{base} WITH {exception}" if base and exception and " " not in base else base
    return None


def combine(expressions: Iterable[str], operator: str) -> str | None:
    """Several expressions as one, without repetitions; None for none."""
    operands: dict[str, None] = {}
    for expression in expressions:
        parts = [expression] if operator == "AND" and _is_choice(expression) else _split(expression, operator)
        if operator == "AND" and len(parts) > 1:
            parts = [part.removeprefix("(").removesuffix(")") for part in parts]
        operands |= dict.fromkeys(filter(None, parts))
    if operator == "AND" and len(operands) > 1:
        # In SPDX, AND binds tighter than OR.
        return " AND ".join(f"({operand})" if _is_choice(operand) else operand for operand in operands)
    return f" {operator} ".join(operands) or None


def _is_choice(expression: str) -> bool:
    return len(_split(expression, "OR")) > 1


def _split(expression: str, operator: str) -> list[str]:
    """The parts of an expression between an operator outside parentheses."""
    parts: list[list[str]] = [[]]
    depth = 0
    for token in expression.split(" "):
        if token == operator and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
        depth += token.count("(") - token.count(")")
    return [" ".join(part) for part in parts]


def is_met(expression: str, accepted: Callable[[str], bool]) -> bool | None:
    """Whether an expression can be met with licences that are accepted; None when it is no expression."""
    parser = _Parser(expression, accepted)
    return parser.met if parser.whole() else None


class _Parser:
    """Reads an expression from left to right; `met` is whether accepted licences suffice."""

    def __init__(self, text: str, accepted: Callable[[str], bool] | None = None) -> None:
        self._tokens = re.findall(r"[()]|[^\s()]+", text)
        self._accepted = accepted
        self.met = False

    def whole(self) -> str | None:
        """The expression in canonical spelling, or None; without `accepted`, its identifiers must be known."""
        try:
            spelled, self.met = self._or()
        except (IndexError, ValueError, RecursionError):
            return None
        return None if self._tokens else spelled

    def _or(self) -> tuple[str, bool]:
        operands = [self._and()]
        while self._next("or"):
            operands.append(self._and())
        return combine((spelled for spelled, _ in operands), "OR") or "", any(met for _, met in operands)

    def _and(self) -> tuple[str, bool]:
        operands = [self._one()]
        while self._next("and"):
            operands.append(self._one())
        return combine((spelled for spelled, _ in operands), "AND") or "", all(met for _, met in operands)

    def _one(self) -> tuple[str, bool]:
        if self._next("("):
            inside = self._or()
            if not self._next(")"):
                raise ValueError("a parenthesis is not closed")
            return inside
        id = canonical_id(self._tokens.pop(0), strict=self._accepted is None)
        spelled = f"{id} WITH {canonical_id(self._tokens.pop(0), strict=False)}" if self._next("with") else id
        # An exception only adds permissions.
        return spelled, self._accepted is not None and (self._accepted(spelled) or self._accepted(id))

    def _next(self, token: str) -> bool:
        if self._tokens and self._tokens[0].lower() == token:
            del self._tokens[0]
            return True
        return False
