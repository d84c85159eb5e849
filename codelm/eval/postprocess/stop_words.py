"""Cutting a completion before the first of some words, as published harnesses and the model card do.

Every rule of this kind loses correct programs: a reference with a second function behind it, or a helper, is cut in
two. `codelm.eval.postprocess` says what each harness looks for.
"""

import re

STOP_WORDS = ("return", "def", "```", "\n\n\n")
"""Of the card of replit-code-v1-3b: for completion in an editor."""
_STOP = re.compile("|".join(rf"\b{word}\b" if word.isalpha() else re.escape(word) for word in STOP_WORDS))


def cut_before(completion: str, words: tuple[str, ...]) -> str:
    """What stands before the first of the words; all of it when there is none."""
    places = [place for word in words if (place := completion.find(word)) >= 0]
    return completion[: min(places, default=len(completion))]


def cut_at_stop_words(prompt: str, completion: str) -> str:
    """What the model card recommends to show of a completion.

    It ends before the first stop word, a word being a whole one (`default` holds no `def`), and loses its trailing
    whitespace. A stop word that the completion begins with is let stand, since nothing would be left.
    """
    stop = _first_stop(prompt, completion)
    return (completion if stop is None else completion[: stop.start() - len(prompt)]).rstrip()


def stop_word_reached(prompt: str, completion: str) -> bool:
    """Whether nothing that follows can change what `cut_at_stop_words` leaves."""
    stop = _first_stop(prompt, completion)
    # A word at the very end may be the beginning of a longer one.
    return stop is not None and not (stop[0].isalpha() and stop.end() == len(prompt) + len(completion))


def _first_stop(prompt: str, completion: str) -> re.Match[str] | None:
    """The first stop word of a completion, but for one that it begins with; places are those in prompt + completion.

    The prompt is read along, for the completion may go on in the middle of a word.
    """
    first = len(prompt) + len(completion) - len(completion.lstrip())
    return next((m for m in _STOP.finditer(prompt + completion, len(prompt)) if m.start() > first), None)
