"""Whether a text is well-formed in its language, by a real parser; nothing is run.

tree-sitter's grammars for most languages. reStructuredText by docutils, whose directives may read no files. Any text is
Markdown, so there the question is whether its code fences are closed. Parsers are stricter than what they stand for
(browsers forgive, SQL has dialects): ask only about texts whose original the same parser takes.
"""

import functools
import io
import re
from collections.abc import Callable

from codelm.errors import EvaluationError

_GRAMMARS = {
    "c": "c", "cpp": "cpp", "css": "css", "go": "go", "html": "html", "java": "java", "javascript": "javascript",
    "jsx": "javascript", "jupyter": "python", "php": "php", "python": "python", "r": "r", "ruby": "ruby",
    "rust": "rust", "shell": "bash", "sql": "sql", "typescript": "tsx", "vue": "vue",
}  # fmt: skip
_LONGEST = 1_000_000
"""Characters: what takes longer to parse than anybody writes."""
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")


def is_well_formed(language: str, text: str) -> bool | None:
    """Whether a whole file parses; None where no parser is known for the language.

    Args:
        language: a key of `codelm.languages.LANGUAGES`.

    Raises:
        EvaluationError: the parsers are not installed.
    """
    parse = parser_of(language)
    return None if parse is None else len(text) <= _LONGEST and parse(text)


@functools.cache
def parser_of(language: str) -> Callable[[str], bool] | None:
    """A language's parser: from a whole file's text to whether it is well-formed."""
    if language == "markdown":
        return _closed_fences()
    if language == "restructuredtext":
        return _restructured_text()
    if language not in _GRAMMARS:
        return None
    if language == "typescript":
        # `<T>value` is a cast in .ts and an element in .tsx; the file's name is not known here.
        return _either(_tree_sitter("tsx"), _tree_sitter("typescript"))
    return _tree_sitter(_GRAMMARS[language])


def _tree_sitter(grammar: str) -> Callable[[str], bool]:
    try:
        from tree_sitter_language_pack import get_parser
    except ImportError:
        raise EvaluationError(_ABSENT.format("tree-sitter-language-pack")) from None
    parser = get_parser(grammar)  # pyright: ignore[reportArgumentType]

    def parse(text: str) -> bool:
        return not parser.parse(text.encode("utf-8", "replace")).root_node.has_error

    return parse


def _either(*parsers: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: any(parse(text) for parse in parsers)


def _restructured_text() -> Callable[[str], bool]:
    try:
        from docutils.core import publish_doctree
        from docutils.utils import SystemMessage
    except ImportError:
        raise EvaluationError(_ABSENT.format("docutils")) from None
    settings = {
        "halt_level": 2,
        "report_level": 5,
        "file_insertion_enabled": False,
        "raw_enabled": False,
        "_disable_config": True,
    }

    def parse(text: str) -> bool:
        try:
            publish_doctree(text, settings_overrides={**settings, "warning_stream": io.StringIO()})
        except SystemMessage:
            return False
        except Exception:  # its transforms stumble over some broken texts
            return False
        return True

    return parse


def _closed_fences() -> Callable[[str], bool]:
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark")

    def parse(text: str) -> bool:
        lines = text.split("\n")
        for token in markdown.parse(text):
            if token.type == "fence" and token.map is not None:
                last = lines[min(token.map[1], len(lines)) - 1].strip().lstrip("> ")
                if token.map[1] - token.map[0] < 2 or not (_FENCE.match(last) and last.startswith(token.markup)):
                    return False
        return True

    return parse


_ABSENT = (
    "whether completions parse cannot be told, for {} is not installed: pip install 'codelm[parse]', or `parse: false`"
)
