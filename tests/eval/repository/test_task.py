"""A repository's benchmark as a task of evaluations: completed, cut, judged by its tests, scored by kind of gap."""

import json
from dataclasses import replace

import pytest

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import HeldOutSection, RepositorySection, TasksSection
from codelm.errors import EvaluationError
from codelm.eval import run
from codelm.eval.background import judge_folder, leave_to_judge
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.postprocess import PROFILES
from codelm.eval.prompts import build_prompts, why_not
from codelm.eval.repository import manifest
from codelm.eval.repository.build import build
from codelm.eval.repository.settings import BuildSettings

SANDBOX = SandboxSection(num_workers=1)
CUT = PROFILES["humaneval"]


@pytest.fixture(scope="module")
def section(built):
    return RepositorySection(path=str(built.folder), max_new_tokens=120, batch_size=8)


@pytest.fixture(scope="module")
def benchmark(section):
    return load_benchmark("shop", section)


@pytest.fixture(scope="module")
def known(benchmark):
    """The gaps in one of the two files."""
    return {problem.task_id for problem in benchmark.problems if problem.task_id.startswith("shop/money.py")}


@pytest.fixture
def model(benchmark, known, tokenizer, reciter_of):
    """Has learnt that file by heart, and goes on with it behind a gap."""
    texts = [
        [*tokenizer.encode(problem.prompt), *tokenizer.encode(problem.gold + problem.suffix)]
        for problem in benchmark.problems
        if problem.task_id in known
    ]
    return reciter_of(texts, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.encode("x")[-1])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_model_that_knows_a_file_passes_what_is_missing_there(benchmark, known, section, model, tokenizer, tmp_path):
    result = run.evaluate(model, tokenizer, benchmark, section, SANDBOX, 3, tmp_path / "out")
    assert {one.task_id for one in result.judged if one.passed} == known
    assert result.judges == {"in_process": len(benchmark.problems)}
    golds = {problem.task_id: problem.gold for problem in benchmark.problems}
    assert all(one.completion == golds[one.task_id] for one in result.judged if one.passed), "the rest was cut off"
    ends = {row["task_id"]: row["reason"] for row in lines(tmp_path / "out" / "samples.jsonl")}
    assert ends["shop/money.py::rounded:body"] == "stop", "generation ends where the gap does"

    assert result.pass_at_1.value == pytest.approx(len(known) / len(benchmark.problems))
    assert "gold_bpb" in result.scores
    assert set(result.by_kind) == {"body", "block", "statement"}
    for kind, scores in result.by_kind.items():
        of_kind = [problem.task_id for problem in benchmark.problems if problem.kind == kind]
        share = len(known.intersection(of_kind)) / len(of_kind)
        assert (scores["pass@1"].value, scores["pass@1"].n) == (pytest.approx(share), len(of_kind))
        if kind == "body":
            assert "exact_match" not in scores, "there are too many right bodies"
        else:
            assert scores["exact_match"].value == pytest.approx(share)
            assert share <= scores["edit_similarity"].value <= 1


def test_the_files_tell_what_is_compared_and_where_it_was_judged(benchmark, section, model, tokenizer, tmp_path):
    few = replace(benchmark, problems=[p for p in benchmark.problems if p.kind != "body"][:3])
    run.evaluate(model, tokenizer, few, section, SANDBOX, 3, tmp_path / "out")
    assert {row["task_id"] for row in lines(tmp_path / "out" / "likeness.jsonl")} == {p.task_id for p in few.problems}
    assert {row["judge"] for row in lines(tmp_path / "out" / "verdicts.humaneval-2.jsonl")} == {"in_process"}
    repeat = json.loads((tmp_path / "out" / "summary.json").read_text())["scores"]["exact_match"]["repeat"]
    assert {"repository", "repository_python", "pytest"} < set(repeat["versions"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    model.calls = 0
    run.evaluate(model, tokenizer, few, section, SANDBOX, 3, tmp_path / "out")
    assert model.calls == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_what_a_training_run_leaves_is_judged_beside_it(benchmark, section, model, tokenizer, tmp_path):
    section = section.model_copy(update={"limit": 2})
    few = load_benchmark("shop", section)
    generated = run.generate_stage(model, tokenizer, few, section, 3, None, None, run.Ranks())
    settings = run.describe(model, tokenizer, few, section, 3, "batch 1")
    leave_to_judge(tmp_path, "shop", section, settings, generated.in_order(), list(generated.gold.values()))
    judge_folder(tmp_path, SANDBOX)
    summary = json.loads((tmp_path / "shop" / "summary.json").read_text())
    assert summary["scores"]["pass@1"]["n"] == 2
    assert summary["judges"] == {"in_process": 2}


class Letters:
    """A token a character, and those for filling in."""

    eos_id, pad_id, vocab_size = 1, 0, 1 << 17
    special_ids = {"fim_prefix": 2, "fim_suffix": 3, "fim_middle": 4}  # noqa: RUF012

    def encode(self, text):
        return [9 + ord(character) for character in text]

    def decode(self, ids):
        return "".join(chr(token - 9) if token > 8 else f"<{token}>" for token in ids)


class Short:
    """A model of which prompts need to know the length alone."""

    def __init__(self, length):
        self.config = type("Config", (), {"max_position_embeddings": length})()


def shown(benchmark, section, length=100_000):
    (prompt, *_) = build_prompts(Short(length), Letters(), section, benchmark.problems)
    return Letters().decode(prompt.ids)


@pytest.fixture(scope="module")
def forms(section):
    """The same gap in each form of a prompt."""

    def with_one(**changes):
        benchmark = load_benchmark("shop", section.model_copy(update=changes))
        return replace(benchmark, problems=[p for p in benchmark.problems if p.task_id.startswith("shop/names.py")][:1])

    return {
        "file": with_one(),
        "repository": with_one(prompt="repository"),
        "fim": with_one(form="fim"),
        "both": with_one(prompt="repository", form="fim"),
    }


def test_a_prompt_is_the_file_with_the_repository_above_it_or_all_around_the_gap(forms, section):
    (problem,) = forms["both"].problems
    assert "# def total(prices, discount=0.0):" in problem.context
    assert {name: shown(benchmark, section) for name, benchmark in forms.items()} == {
        "file": problem.prompt,
        "repository": problem.context + problem.prompt,
        "fim": f"<2>{problem.prompt}<3>{problem.suffix}<4>",
        "both": f"<2>{problem.context}{problem.prompt}<3>{problem.suffix}<4>",
    }
    assert len({benchmark.prompts_sha256() for benchmark in forms.values()}) == 4
    assert len({benchmark.problems[0].program("GAP") for benchmark in forms.values()}) == 1


def test_where_a_prompt_does_not_fit_its_context_has_half_the_room(forms, section):
    (problem,) = forms["both"].problems
    section = section.model_copy(update={"max_new_tokens": 8})
    room = len(problem.prompt) + 40
    assert (
        shown(forms["repository"], section, room + 8)
        == problem.context[-(room // 2) :] + problem.prompt[room // 2 - room :]
    )
    assert shown(forms["file"], section, 60 + 8) == problem.prompt[-60:]
    bounded = section.model_copy(update={"max_prompt_tokens": 60})
    assert shown(forms["file"], bounded) == problem.prompt[-60:]
    behind = problem.suffix[:20]
    half = (80 - len(behind)) // 2
    before = f"{problem.context[-half:]}{problem.prompt[half + len(behind) - 80 :]}"
    assert shown(forms["both"], section, 80 + 3 + 8) == f"<2>{before}<3>{behind}<4>"


def test_a_tokenizer_that_cannot_fill_in_is_said_in_one_sentence(forms):
    class Plain(Letters):
        special_ids = {}  # noqa: RUF012

    assert why_not(Letters(), forms["fim"].problems) is None
    assert why_not(Plain(), forms["file"].problems) is None
    reason = why_not(Plain(), forms["fim"].problems)
    assert reason is not None
    assert reason.startswith("the tokenizer of this checkpoint has no fill-in-the-middle tokens")


@pytest.mark.parametrize(
    ("form", "ended", "kept"),
    [
        ("left_to_right", False, "    return 1\n"),
        ("left_to_right", True, "    return 1\n"),
        ("fim", False, "    return 1\n"),
        ("fim", True, "    return 1\n\ndef other():\n    pass\n"),
    ],
)
def test_what_was_filled_in_and_ended_is_whole_all_else_is_cut_where_the_gap_ends(section, form, ended, kept):
    benchmark = load_benchmark("shop", section.model_copy(update={"form": form, "masks": ["body"]}))
    text = "    return 1\n\ndef other():\n    pass"
    assert CUT.cut(benchmark.problems[0], text, ended) == kept


def test_masks_and_a_limit_choose_the_gaps(section, benchmark):
    of_blocks = load_benchmark("shop", section.model_copy(update={"masks": ["block"]}))
    assert of_blocks.problems == [problem for problem in benchmark.problems if problem.kind == "block"]
    few = load_benchmark("shop", section.model_copy(update={"limit": 3}))
    assert few.problems == benchmark.problems[:3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "nowhere"}, "nowhere holds no finished benchmark; build it with"),
        ({"python": "/nowhere/python"}, "/nowhere/python is no interpreter; give the bin/python of"),
        ({"python": "/bin/true"}, "/bin/true does not run as a Python 3 interpreter"),
    ],
)
def test_what_cannot_be_judged_is_one_sentence_before_anything_is_generated(section, changes, message):
    with pytest.raises(EvaluationError, match=message):
        load_benchmark("shop", section.model_copy(update=changes))


def test_what_the_manifest_holds_out_is_measured_without_tests(built):
    held_out = load_benchmark("texts", HeldOutSection(path=str(built.folder)))
    _, rows = manifest.read(built.folder)
    files = {row["path"]: row for row in rows if row["row"] == "file"}
    documents = [problem for problem in held_out.problems if problem.form == "document"]
    assert {problem.task_id: problem.gold for problem in documents} == {
        path: row["solution"] for path, row in files.items()
    }
    gaps = {problem.task_id: problem for problem in held_out.problems if problem.form == "gap"}
    assert set(gaps) == {item["id"] for row in files.values() for item in row["items"]}
    assert all(gap.program(gap.gold) == files[task_id.rsplit(":", 1)[0]]["solution"] for task_id, gap in gaps.items())
    assert {gap.group for gap in gaps.values()} >= {"javascript line", "javascript block", "python line"}


def test_a_benchmark_without_tests_is_refused(shop, tmp_path):
    bench = build(str(shop), None, tmp_path / "bench", BuildSettings()).folder
    with pytest.raises(EvaluationError, match="was built without --python: nothing in it is judged by tests"):
        load_benchmark("shop", RepositorySection(path=str(bench)))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"repository": {"path": "bench"}}, "each needs a name of its own"),
        ({"repository": {"mbpp": {"path": "bench"}}}, "mbpp is the name of a benchmark that is there already"),
        ({"repository": {"a/b": {"path": "bench"}}}, "cannot be a folder's name"),
        ({"repository": {"a": {"path": "b"}}, "custom": {"a": {"load": "x:y"}}}, "are called a"),
    ],
)
def test_names_that_will_not_do_are_refused(tasks, message):
    with pytest.raises(ValueError, match=message):
        TasksSection.model_validate(tasks)
