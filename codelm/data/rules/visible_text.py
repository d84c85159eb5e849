"""The text of an HTML page that a reader sees: what is left without tags, comments, scripts and styles."""

import html
import re

# An element or a comment that never ends takes the rest of the page with it, as in a browser.
_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)|<script\b.*?(?:</script\s*>|\Z)|<style\b.*?(?:</style\s*>|\Z)|<[!?/a-zA-Z][^<>]*>",
    re.DOTALL | re.IGNORECASE,
)


def visible_text(page: str) -> str:
    """The text between the tags, its white space kept and entities replaced, as StarCoder's filter counts it."""
    return html.unescape(_HIDDEN.sub("", page))
