"""The 20 programming languages of replit-code-v1-3b: names, file extensions, and shares of each mixture preset.

Sources: the model card's list (its order is the order here, descending by share); The Stack's extension map;
StarCoderData's published token counts (B tokens after filtering) for `natural`. JSX and Vue are not listed there:
their `natural` figures are our estimate. Replit never published its shares: `replit_order` is our reconstruction
(strictly descending in the card's order, no source repeated more than about 4.5 times at 175 B tokens), in percent.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Language:
    """One language: `name` is its key in YAML files and folder names, `extensions` are lower-case with the dot."""

    name: str
    title: str
    extensions: tuple[str, ...]
    comment: str
    natural: float
    replit_order: float


_TABLE = [
    Language("markdown", "Markdown", (".md", ".markdown", ".mkd"), "<!--", 23.67, 15.2),
    Language("java", "Java", (".java",), "//", 24.21, 14.9),
    Language("javascript", "JavaScript", (".js", ".mjs", ".cjs"), "//", 20.08, 12.8),
    Language("python", "Python", (".py", ".pyi", ".pyw"), "#", 18.62, 11.8),
    Language("typescript", "TypeScript", (".ts", ".tsx", ".mts", ".cts"), "//", 7.93, 8.2),
    Language("php", "PHP", (".php", ".phtml"), "//", 17.47, 7.9),
    Language("sql", "SQL", (".sql",), "--", 5.32, 3.4),
    Language("jsx", "JSX", (".jsx",), "//", 2.5, 2.9),
    Language("restructuredtext", "reStructuredText", (".rst", ".rest"), "..", 1.04, 2.63),
    Language("rust", "Rust", (".rs",), "//", 2.86, 2.60),
    Language("c", "C", (".c", ".h"), "//", 21.16, 2.57),
    Language("css", "CSS", (".css",), "/*", 5.07, 2.54),
    Language("go", "Go", (".go",), "//", 8.60, 2.51),
    Language("cpp", "C++", (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx", ".cu", ".cuh"), "//", 17.02, 2.47),
    Language("html", "HTML", (".html", ".htm", ".xhtml"), "<!--", 9.26, 2.44),
    Language("vue", "Vue", (".vue",), "<!--", 1.5, 1.9),
    Language("ruby", "Ruby", (".rb", ".rake", ".gemspec"), "#", 2.15, 1.36),
    Language("jupyter", "Jupyter Notebook", (".ipynb",), "#", 2.43, 1.33),
    Language("r", "R", (".r",), "#", 0.106, 0.27),
    Language("shell", "Shell", (".sh", ".bash", ".zsh"), "#", 1.10, 0.26),
]

LANGUAGES: dict[str, Language] = {language.name: language for language in _TABLE}
PRESETS = ("natural", "replit-order")
_BY_EXTENSION = {extension: language for language in _TABLE for extension in language.extensions}


def language_of(path: str) -> Language | None:
    """The language of a file by its extension, or None when it is none of the 20."""
    return _BY_EXTENSION.get(PurePosixPath(path).suffix.lower())


def preset_shares(preset: str) -> dict[str, float]:
    """The shares of a mixture preset by language name, summing to 1."""
    field = {"natural": "natural", "replit-order": "replit_order"}[preset]
    total = sum(getattr(language, field) for language in _TABLE)
    return {language.name: getattr(language, field) / total for language in _TABLE}
