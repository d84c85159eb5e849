"""A row of tokens as text to look at: special pieces written out, what has no loss marked, nothing that acts."""

import itertools
import os
import sys
from collections.abc import Iterator

import numpy as np

from codelm.tokenizer import Tokenizer

_RESET, _DIM, _PIECE = "\033[0m", "\033[2m", "\033[33m"
_FIM_STYLE = {"fim_prefix": "\033[34m", "fim_suffix": "\033[32m", "fim_middle": "\033[1m"}
# What a file holds must not move the cursor or retitle the window: control characters become pictures of themselves.
_PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
_PICTURES |= {127: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}
_IN_NAMES = _PICTURES | {9: 0x2409, 10: 0x240A}


def printable(name: str) -> str:
    """A file's or repository's name on one line, with nothing in it that acts on the terminal."""
    return name.translate(_IN_NAMES)


def render(tokenizer: Tokenizer, ids: np.ndarray, loss_mask: np.ndarray) -> str:
    """The text of token ids, both (n,): coloured on a terminal, with ⟦ ⟧ around what has no loss elsewhere."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    names = {index: name for name, index in tokenizer.special_ids.items()}
    special = {tokenizer.eos_id, tokenizer.pad_id, *names}
    style, shown = "", []
    for first, end in _runs(ids, loss_mask, special):
        part = ids[first:end].tolist()
        text = tokenizer.decode(part, keep_special=True).translate(_PICTURES)
        no_loss = not loss_mask[first]
        if part[0] in special:
            # What follows a piece has its style, up to the end of the document.
            style = _FIM_STYLE.get(names.get(part[0], ""), "")
            shown.append(f"{_PIECE}{text}{_RESET}" if colour else f"⟦{text}⟧" if no_loss else text)
        elif colour:
            shown.append(f"{_DIM if no_loss else style}{text}{_RESET}")
        else:
            shown.append(f"⟦{text}⟧" if no_loss else text)
    return "".join(shown)


def _runs(ids: np.ndarray, loss_mask: np.ndarray, special: set[int]) -> Iterator[tuple[int, int]]:
    """From first to end (exclusive): each special piece alone, and text with or without loss."""
    is_special = np.isin(ids, list(special))
    changes = (is_special[1:] | is_special[:-1]) | (loss_mask[1:] != loss_mask[:-1])
    borders = [0, *(np.flatnonzero(changes) + 1).tolist(), len(ids)]
    yield from ((first, end) for first, end in itertools.pairwise(borders) if end > first)
