"""The bounds that hold for a language: what `filters.languages` says, else what was published, else `filters`.

Published for single languages: no line limits for prose, SQL, R and notebooks (StarCoder's inspection of the data,
where long lines are paragraphs, strings and outputs); digits in SQL, whose dumps are data (OpenCoder). StarCoder's
bounds for JSON and YAML (100 to 5,000 characters) concern none of the 20 languages.
"""

from typing import NamedTuple

from codelm.config.cleaning import FiltersSection


class Thresholds(NamedTuple):
    """The bounds for one language, named as in `FiltersSection`; None is no bound. A tuple, which is made fast."""

    min_characters: int
    fewest_lines: int
    max_lines: int | None
    max_line_length: int | None
    max_mean_line_length: float | None
    min_alphanumeric: float
    min_alphabetic: float
    max_digits: float | None
    max_encoded_run: int | None
    max_encoded_share: float | None
    least_comments: float | None
    max_comments: float | None
    min_visible_text: float
    min_visible_characters: int
    drop_xml: bool
    drop_generated: bool


_NO_LINE_LIMITS: dict[str, float | bool | None] = {"max_line_length": None, "max_mean_line_length": None}
PUBLISHED: dict[str, dict[str, float | bool | None]] = {
    "markdown": _NO_LINE_LIMITS,
    "restructuredtext": _NO_LINE_LIMITS,
    "sql": _NO_LINE_LIMITS | {"max_digits": 0.3},
    "r": _NO_LINE_LIMITS,
    "jupyter": _NO_LINE_LIMITS,
    # XHTML begins with the declaration.
    "html": {"drop_xml": False},
}


def thresholds(filters: FiltersSection, language: str) -> Thresholds:
    """The bounds for a language, by its name."""
    values = {name: getattr(filters, name) for name in Thresholds._fields}
    values |= PUBLISHED.get(language, {})
    own = filters.languages.get(language)
    if own is not None:
        values |= {name: value for name in values if (value := getattr(own, name)) is not None}
    return Thresholds(**values)


def setting(filters: FiltersSection, language: str, name: str) -> str:
    """The key of the YAML that holds a language's bound, or that would change it."""
    own = filters.languages.get(language)
    if name in PUBLISHED.get(language, {}) or (own is not None and getattr(own, name) is not None):
        return f"filters.languages.{language}.{name}"
    return f"filters.{name}"
