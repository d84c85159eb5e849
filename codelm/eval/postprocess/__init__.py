"""How a completion is cut before it is judged: named, versioned profiles, applied to stored text, so re-scorable.

- `humaneval`, the default, keeps what the function needs and breaks no correct program (`python_program`, `infill`);
  `python_finished` says when generation may stop.
- `none` judges the text as it is.
- `bigcode` and `lm-eval` end it before the first of those harnesses' stop words (bigcode-evaluation-harness 8fc5bae,
  lm-evaluation-harness 4e7e0d4), `evalplus-like` keeps what EvalPlus's sanitizer would (`evalplus_like`), `model-card`
  does what the card of replit-code-v1-3b recommends to editors. All of them lose correct programs; they are here to
  compare with scores that were made so.

- `multipl-e` ends it before the first of the problem's own stop tokens, which MultiPL-E publishes for each language;
  for problems that have some, `humaneval` does the same.

The other published rules are for Python functions and programs: what is filled in between prompt and suffix, they leave
as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from codelm.eval.postprocess.evalplus_like import sanitize
from codelm.eval.postprocess.infill import cut_infill, infill_finished
from codelm.eval.postprocess.python_finished import python_function_finished
from codelm.eval.postprocess.python_program import cut_python_function
from codelm.eval.postprocess.stop_words import STOP_WORDS, cut_at_stop_words, cut_before, stop_word_reached
from codelm.eval.problem import Form, Problem
from codelm.eval.repository import cut as gap

__all__ = ["PROFILES", "STOP_WORDS", "Profile"]

DEFAULT = "humaneval"

_BIGCODE: dict[Form, tuple[str, ...]] = {
    "function": ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>"),
    "program": ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```"),
    "infill": (),
    "gap": (),
}
_LM_EVAL: dict[Form, tuple[str, ...]] = {
    "function": ("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
    "program": ("[DONE]",),
    "infill": (),
    "gap": (),
}


@dataclass(frozen=True)
class Profile:
    """A named way to cut.

    Attributes:
        version: rises with every change of what is kept.
        cut: problem, completion, and whether the completion ended of itself → what is judged.
        finished: problem, completion so far → whether generating more cannot matter; None: never.
    """

    name: str
    version: int
    cut: Callable[[Problem, str, bool], str]
    finished: Callable[[Problem, str], bool] | None = None

    @property
    def label(self) -> str:
        """Name and version, as in records."""
        return f"{self.name}-{self.version}"


def _cut(problem: Problem, completion: str, ended: bool) -> str:
    if problem.stop:
        return cut_before(completion, problem.stop)
    if problem.form == "gap":
        if ended and problem.fills_in:
            return gap.whole_lines(completion)
        return gap.cut(problem.kind, problem.gold, completion, problem.language)
    if problem.form == "infill":
        return cut_infill(problem.prompt, completion, problem.suffix or "", problem.lines)
    return cut_python_function(problem.prompt, completion, problem.entry_point, ended)


def _finished(problem: Problem, completion: str) -> bool:
    if problem.stop:
        return any(word in completion for word in problem.stop)
    if problem.form == "gap":
        return gap.finished(problem.kind, problem.gold, completion, problem.language)
    if problem.form == "infill":
        return infill_finished(completion, problem.lines)
    return python_function_finished(problem.prompt, completion, problem.entry_point)


def _sanitized(problem: Problem, completion: str, ended: bool) -> str:
    """The sanitized program, behind the prompt and in its place: the last definition counts."""
    if problem.form in ("infill", "gap"):
        return completion
    return f"\n{sanitize(problem.prompt + completion, problem.entry_point)}"


def _before(words: dict[Form, tuple[str, ...]]) -> Callable[[Problem, str, bool], str]:
    return lambda problem, completion, ended: cut_before(completion, words[problem.form])


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("none", 1, lambda problem, completion, ended: completion),
        Profile(DEFAULT, 2, _cut, _finished),
        Profile("bigcode", 1, _before(_BIGCODE)),
        Profile("lm-eval", 1, _before(_LM_EVAL)),
        Profile("evalplus-like", 1, _sanitized),
        Profile("multipl-e", 1, lambda problem, completion, ended: cut_before(completion, problem.stop)),
        Profile(
            "model-card",
            1,
            lambda problem, completion, ended: cut_at_stop_words(problem.prompt, completion),
            lambda problem, completion: stop_word_reached(problem.prompt, completion),
        ),
    )
}
