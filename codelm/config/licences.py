"""Licences in the YAML: SPDX expressions, or the names that people give them; a misspelt one is refused at once."""

from typing import Annotated

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator

from codelm.config.suggest import closest
from codelm.spdx.expressions import parse_licence
from codelm.spdx.ids import LISTED


def known_licence(text: str) -> str:
    """The expression in SPDX's spelling: of ids that SPDX lists, and of `LicenseRef-…` for all others.

    Raises:
        ValueError: with the sentence for the user.
    """
    if known := parse_licence(text):
        return known
    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        raise ValueError(_unknown(text)) from None


def _unknown(text: str) -> str:
    words = [text, *(word for word in text.split() if word not in ("OR", "AND", "WITH") and not parse_licence(word))]
    for word in reversed(words):
        if near := closest(word, LISTED):
            return f"`{word}` is no SPDX licence id; did you mean `{near}`?"
    return f"`{text}` is no SPDX licence id; write LicenseRef-<name> for a licence that SPDX does not list"


def _one_licence(text: str) -> str:
    known = known_licence(text)
    if " OR " in known or " AND " in known:
        raise ValueError(f"`{text}` is more than one licence; list each by itself")
    return known


Licence = Annotated[str, AfterValidator(known_licence)]
"""An SPDX expression, such as `MIT` or `MIT OR Apache-2.0`."""

OneLicence = Annotated[str, AfterValidator(_one_licence)]
"""An SPDX id."""
