"""The contract between benchmarks and everything else: a problem says what the model sees, and how it is judged.

A benchmark is a list of problems and who judges them. Generation looks at `context`, `prompt` and `suffix`,
post-processing at `form`, the judge gets `job(completion)`; nothing else knows where a problem comes from.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval.judge.contract import Judge
from codelm.eval.judge.pool import JudgePool
from codelm.eval.judge.verdict import Job

Form = Literal["function", "program", "infill", "gap", "document"]
"""function: the completion goes on with the prompt's last function. program: it is a whole program behind a
description. infill: it stands between prompt and suffix. gap: the same, in whole lines of a file.
document: nothing is completed, only the bits of `gold` are measured, a whole file."""


@dataclass(frozen=True)
class Problem:
    """One problem of a benchmark.

    Attributes:
        task_id: its name, unique in the benchmark.
        prompt: the text before the completion, to the character.
        gold: a completion that is right.
        suffix: the text behind the completion; None where the completion is the end.
        context: text that is shown above the prompt and is no part of the program.
        left_to_right: the suffix is not shown.
        entry_point: the function that the tests call.
        prelude: trusted source that the tests may use (imports, helper functions).
        test: trusted source that defines `check(candidate)`.
        judge: one of `codelm.eval.judge.verdict.JUDGES`.
        patience: it may take so many times the sandbox's seconds, its tests being much work.
        language: a key of `codelm.languages.LANGUAGES`.
        lines: the completion is so many lines, and what follows does not count; None: any number.
        kind: what is to be completed, such as a line; scores are also given for each.
        group: scores are given for each of these instead, where a problem has one.
        measured: the bits of `gold` are measured, if there is one.
        compared: completions are also compared with `gold`, as texts.
        stop: texts that end a completion by its benchmark's rules; for languages other than Python.
    """

    task_id: str
    prompt: str
    gold: str = ""
    suffix: str | None = None
    context: str = ""
    left_to_right: bool = False
    entry_point: str = ""
    prelude: str = ""
    test: str = ""
    judge: str = "literal"
    patience: float = 1.0
    form: Form = "function"
    language: str = "python"
    lines: int | None = None
    kind: str = ""
    group: str = ""
    measured: bool = True
    compared: bool = False
    stop: tuple[str, ...] = ()

    @property
    def fills_in(self) -> bool:
        """Whether a model sees what stands behind the completion."""
        return self.suffix is not None and not self.left_to_right

    @property
    def completed(self) -> bool:
        """Whether a model is to complete it."""
        return self.form != "document"

    @property
    def has_bits(self) -> bool:
        """Whether there is a reference whose bits are measured."""
        return self.measured and bool(self.gold)

    def program(self, completion: str) -> str:
        """What is run: prompt, completion, suffix."""
        return self.prompt + completion + (self.suffix or "")

    def job(self, completion: str, id: str | None = None) -> Job:
        """The judge's job for a completion, after post-processing."""
        return Job(
            id=id or self.task_id,
            program=self.program(completion),
            entry_point=self.entry_point,
            prelude=self.prelude,
            test=self.test,
            judge=self.judge,
            patience=self.patience,
            task_id=self.task_id,
        )


@dataclass(frozen=True)
class Benchmark:
    """Problems by a name.

    Attributes:
        name: its key in a YAML's `tasks`, and its folder's name.
        title: as it is shown.
        left_out: a sentence for each part of it that cannot be evaluated here.
        open_judge: starts the judge of its completions, within the bounds of the sandbox.
        versions: of what its verdicts depend on besides ourselves, such as compilers.
    """

    name: str
    title: str
    problems: Sequence[Problem]
    left_out: tuple[str, ...] = ()
    open_judge: Callable[[SandboxSection], Judge] = JudgePool
    versions: dict[str, str] = field(default_factory=dict)

    def sha256(self) -> str:
        """Of all that the problems say."""
        digest = hashlib.sha256()
        for problem in self.problems:
            digest.update(json.dumps(asdict(problem), sort_keys=True).encode())
        return digest.hexdigest()

    def prompts_sha256(self) -> str:
        """Of all that a model sees."""
        shown = [[p.context, p.prompt, p.suffix if p.fills_in else None] for p in self.problems]
        return hashlib.sha256(json.dumps(shown).encode()).hexdigest()
