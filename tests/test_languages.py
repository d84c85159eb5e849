"""The 20 languages: the model card's list, and every file goes to at most one."""

import itertools

import pytest

from codelm.languages import LANGUAGES, language_of, preset_shares

CARD = [
    "Markdown",
    "Java",
    "JavaScript",
    "Python",
    "TypeScript",
    "PHP",
    "SQL",
    "JSX",
    "reStructuredText",
    "Rust",
    "C",
    "CSS",
    "Go",
    "C++",
    "HTML",
    "Vue",
    "Ruby",
    "Jupyter Notebook",
    "R",
    "Shell",
]


def test_the_languages_are_those_of_the_model_card_in_its_order() -> None:
    assert [language.title for language in LANGUAGES.values()] == CARD


def test_no_extension_belongs_to_two_languages() -> None:
    extensions = [extension for language in LANGUAGES.values() for extension in language.extensions]
    assert len(extensions) == len(set(extensions))
    assert all(extension == extension.lower() and extension.startswith(".") for extension in extensions)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.py", "python"),
        ("README.MD", "markdown"),
        ("x.test.tsx", "typescript"),
        ("component.jsx", "jsx"),
        ("kernel.cu", "cpp"),
        ("header.h", "c"),
        ("analysis.R", "r"),
        ("notes.ipynb", "jupyter"),
        ("archive.py.gz", None),
        ("Makefile", None),
        (".py", None),
        ("", None),
    ],
)
def test_a_file_belongs_to_the_language_of_its_extension(path: str, name: str | None) -> None:
    language = language_of(path)
    assert (language.name if language else None) == name


@pytest.mark.parametrize("preset", ["natural", "replit-order"])
def test_presets_are_shares(preset: str) -> None:
    shares = preset_shares(preset)
    assert list(shares) == list(LANGUAGES)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0


def test_replit_order_descends_strictly_in_the_cards_order() -> None:
    shares = list(preset_shares("replit-order").values())
    assert all(first > second for first, second in itertools.pairwise(shares))
