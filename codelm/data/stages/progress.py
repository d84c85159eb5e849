"""How far a stage has come, for those who watch."""

from collections.abc import Callable, Iterator
from typing import Any

Progress = Callable[[str, int, int | None], None]
"""Called with a stage's name, the bytes done (files when listing, steps when comparing) and their total (None when
unknown)."""

LISTING, READING, COMPARING = "list files", "clean", "near duplicates"
TRAINING, TOKENISING, PACKING = "train tokenizer", "tokenise", "pack"


def reporting(files: Iterator[Any], progress: Progress) -> Iterator[Any]:
    """The files, while their number is reported."""
    number = 0
    for number, file in enumerate(files, 1):
        if number % 1000 == 0:
            progress(LISTING, number, None)
        yield file
    progress(LISTING, number, number)
