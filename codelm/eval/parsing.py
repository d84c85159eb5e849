"""Whether a text is well-formed in its language, by a real parser; nothing is run.

tree-sitter's grammars for most languages, sqlglot for SQL, docutils for reStructuredText, whose directives may read no
files. Any text is Markdown, so there the question is whether its code fences are closed. Parsers are stricter than
what they stand for (browsers forgive, SQL has dialects): ask only about texts whose original the same parser takes.
"""

import functools
import io
import logging
import re
from collections.abc import Callable
from typing import Any

from codelm.errors import EvaluationError

_GRAMMARS = {
    "c": "c", "cpp": "cpp", "css": "css", "go": "go", "html": "html", "java": "java", "javascript": "javascript",
    "jsx": "javascript", "jupyter": "python", "php": "php", "python": "python", "r": "r", "ruby": "ruby",
    "rust": "rust", "shell": "bash", "typescript": "tsx", "vue": "vue",
}  # fmt: skip
_LONGEST = 1_000_000
"""Characters: what takes longer to parse than anybody writes."""
_DIALECTS = ("", "postgres", "mysql", "sqlite", "tsql", "oracle")
_TAG_NAME = re.compile(r"<([\w-]+)")
_NEED_NO_END = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr", "html",
    "head", "body", "p", "li", "dt", "dd", "option", "optgroup", "tr", "td", "th", "thead", "tbody", "tfoot",
    "colgroup", "caption", "rt", "rp",
})  # fmt: skip
"""HTML Living Standard, 13.1.2: void elements, and those whose end tag may be left out."""
_OTHER_SCRIPT = re.compile(
    r"(?:type|lang)\s*=\s*[\"']?(?!module|text/javascript|application/javascript|js|ts|tsx|jsx)\w"
)
_OTHER_STYLE = re.compile(r"lang\s*=\s*[\"']?(?!css)\w")
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
    if language == "sql":
        return _sql()
    if language not in _GRAMMARS:
        return None
    if language == "typescript":
        return _typescript()
    if language in ("html", "vue"):
        return _markup(language)
    return _tree_sitter(_GRAMMARS[language])


def _typescript() -> Callable[[str], bool]:
    # `<T>value` is a cast in .ts and an element in .tsx; the file's name is not known here.
    tsx, plain = _tree_sitter("tsx"), _tree_sitter("typescript")
    return lambda text: tsx(text) or plain(text)


def _grammar(grammar: str) -> Any:
    try:
        from tree_sitter_language_pack import get_parser
    except ImportError:
        raise EvaluationError(_ABSENT.format("tree-sitter-language-pack")) from None
    return get_parser(grammar)  # pyright: ignore[reportArgumentType]


def _tree_sitter(grammar: str) -> Callable[[str], bool]:
    parser = _grammar(grammar)
    return lambda text: not parser.parse(text.encode("utf-8", "replace")).root_node.has_error


def _markup(grammar: str) -> Callable[[str], bool]:
    """HTML and Vue: every element is closed that must be, and the scripts and style sheets inside parse, too."""
    parser, typescript, css = _grammar(grammar), _typescript(), _tree_sitter("css")

    def parse(text: str) -> bool:
        data = text.encode("utf-8", "replace")
        root = parser.parse(data).root_node
        if root.has_error:
            return False
        nodes = [root]
        while nodes:
            node = nodes.pop()
            nodes += node.children
            if not node.type.endswith("element") or not node.children:
                continue
            first, last = node.children[0], node.children[-1]
            if first.type != "start_tag":
                continue
            head = data[first.start_byte : first.end_byte].decode().lower()
            name = _TAG_NAME.match(head)
            if last.type != "end_tag" and name and name[1] not in _NEED_NO_END:
                return False
            for inner in node.children:
                inside = data[inner.start_byte : inner.end_byte].decode()
                if inner.type == "raw_text" and not _is_fine_inside(node.type, head, inside):
                    return False
        return True

    def _is_fine_inside(kind: str, head: str, inside: str) -> bool:
        if kind == "script_element" and not _OTHER_SCRIPT.search(head):
            return typescript(inside)
        return kind != "style_element" or _OTHER_STYLE.search(head) is not None or css(inside)

    return parse


def _sql() -> Callable[[str], bool]:
    """sqlglot, in any one of the commonest dialects, since a file does not say which it is in."""
    try:
        import sqlglot
        from sqlglot.errors import ErrorLevel, SqlglotError
    except ImportError:
        raise EvaluationError(_ABSENT.format("sqlglot")) from None
    # It warns of every statement that it only knows by its first word.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)

    def parse(text: str) -> bool:
        for dialect in _DIALECTS:
            try:
                sqlglot.parse(text, dialect=dialect, error_level=ErrorLevel.RAISE)
            except (SqlglotError, RecursionError):
                continue
            return True
        return False

    return parse


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
