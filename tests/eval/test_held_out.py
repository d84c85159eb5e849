"""Held-out files: bits per byte by language, gaps compared with what stood there, parsed where that says something."""

import json
import sysconfig
from pathlib import Path

import pytest

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import HeldOutSection, TasksSection, tasks_of
from codelm.errors import EvaluationError
from codelm.eval import run
from codelm.eval.background import judge_folder, leave_to_judge
from codelm.eval.benchmarks import held_out
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.judge.verdict import COMPARED, PARSER
from codelm.eval.parsing import is_well_formed
from codelm.eval.ranks import Ranks
from codelm.eval.selftest import _of_benchmark
from codelm.eval.similarity import edit_similarity, exact_match, identifier_match
from codelm.languages import LANGUAGES

SANDBOX = SandboxSection(num_workers=1)
PYTHON = "".join(
    f"def area_{n}(width, height):\n    size = width * height\n    return size + {n}\n\n\n" for n in range(8)
)
CSS = "".join(f".box-{n} {{\n    color: red;\n    margin-left: {n}px;\n}}\n\n" for n in range(8))
BROKEN = "".join(f"void run_{n}(int value) {{\n    print(value + {n};\n    return value;\n\n" for n in range(8))
SQL = "".join(f"SELECT name, price\nFROM goods\nWHERE price > {n} AND shop = {n};\n\n" for n in range(8))


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "files"
    place.mkdir()
    for name, text in (("a.py", PYTHON), ("a.css", CSS), ("a.c", BROKEN), ("a.sql", SQL), ("notes.xyz", CSS)):
        (place / name).write_text(text)
    return place


def section_of(folder, **changed):
    return HeldOutSection(path=str(folder), batch_size=4, max_new_tokens=60, **changed)


@pytest.fixture
def knowing(reciter_of, tokenizer):
    """A model that knows the Python file by heart, and nothing else."""
    texts = [[*tokenizer.encode(PYTHON[:end]), *tokenizer.encode(PYTHON[end:])] for end in (0,)]
    return reciter_of(texts, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.encode("x")[-1])


def evaluate(model, tokenizer, section, folder, **more):
    return run.evaluate(model, tokenizer, load_benchmark("mine", section), section, SANDBOX, 3, folder, **more)


def test_each_language_has_its_bits_and_its_lines(knowing, tokenizer, folder, tmp_path):
    result = evaluate(knowing, tokenizer, section_of(folder), tmp_path / "out")
    assert set(result.scores) == {"bits_per_byte", "exact_match", "edit_similarity", "identifier_match", "parses"}
    assert {"python", "css", "c", "sql", "python line", "python block", "css line"} <= set(result.by_kind)
    python, css = result.by_kind["python line"], result.by_kind["css line"]
    assert python["exact_match"].value == python["edit_similarity"].value == python["parses"].value == 1.0
    assert css["exact_match"].value == 0.0
    assert "parses" not in result.by_kind["c line"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "gold.jsonl").read_text().splitlines()]
    assert {row["task_id"]: row["bytes"] for row in rows} == {
        name: len((folder / name).read_bytes()) for name in ("a.py", "a.css", "a.c", "a.sql")
    }
    assert result.scores["bits_per_byte"].value == pytest.approx(
        sum(row["bits"] for row in rows) / sum(row["bytes"] for row in rows)
    )
    again = evaluate(knowing, tokenizer, section_of(folder), tmp_path / "out")
    assert again.summary() == result.summary()


def test_the_report_and_the_self_test_know_that_nothing_is_run(knowing, tokenizer, folder, tmp_path):
    section = section_of(folder, languages=["css"])
    evaluate(knowing, tokenizer, section, tmp_path / "out")
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Sandbox: nothing is run." in report
    assert "| files, bits/byte |" in report
    ((_, must, jobs), *others) = _of_benchmark(load_benchmark("mine", section))
    assert must == "pass"
    assert jobs
    assert {job.judge for job in jobs} == {PARSER}
    assert not any(jobs for _, _, jobs in others)


def test_ranks_share_it_and_a_process_beside_training_scores_it(knowing, tokenizer, folder, tmp_path):
    section = section_of(folder)
    benchmark = load_benchmark("mine", section)
    whole = evaluate(knowing, tokenizer, section, None)
    parts = [
        run.generate_stage(knowing, tokenizer, benchmark, section, 3, None, None, Ranks(rank, 2)) for rank in (1, 0)
    ]
    completions = {key: value for part in parts for key, value in part.completions.items()}
    gold = {key: row for part in parts for key, row in part.gold.items()}
    assert all(len(part.gold) == 2 for part in parts)
    ordered = [completions[prompt.key] for prompt in parts[0].prompts]
    settings = run.describe(knowing, tokenizer, benchmark, section, 3, None)
    leave_to_judge(tmp_path / "ba1", "mine", section, settings, ordered, list(gold.values()))
    judge_folder(tmp_path / "ba1", SANDBOX)
    summary = json.loads((tmp_path / "ba1" / "mine" / "summary.json").read_text())
    values = {name: score["value"] for name, score in summary["scores"].items()}
    assert values == pytest.approx(whole.values())
    assert TasksSection.model_validate(tasks_of("mine", section)).chosen() == {"mine": section}


def test_only_files_that_parse_are_judged_by_a_parser(folder):
    problems = load_benchmark("mine", section_of(folder)).problems
    judges = {problem.language: problem.judge for problem in problems if problem.form == "gap"}
    assert judges == {"python": PARSER, "css": PARSER, "sql": PARSER, "c": COMPARED}
    unparsed = load_benchmark("mine", section_of(folder, parse=False)).problems
    assert {problem.judge for problem in unparsed if problem.form == "gap"} == {COMPARED}
    css = next(problem for problem in problems if problem.language == "css" and problem.kind == "line")
    with held_out.ParseJudge(SANDBOX) as judge:
        right, wrong, huge = judge.judge([css.job(text) for text in (css.gold, "{{{\n", "a" * 10_000_000)])
    assert [verdict.kind for verdict in (right, wrong, huge)] == ["passed", "failed", "failed"]


def test_a_text_that_takes_its_parser_too_long_is_a_verdict_and_the_next_one_is_judged(folder):
    problems = load_benchmark("mine", section_of(folder)).problems
    sql = next(problem for problem in problems if problem.language == "sql" and problem.judge == PARSER)
    endless = f"SELECT a FROM b WHERE c IN ({'1, ' * 300_000}"
    hasty = SandboxSection(num_workers=1, cpu_seconds=1.0)
    with held_out.ParseJudge(hasty) as judge:
        verdicts = judge.judge([sql.job(text) for text in (endless, sql.gold)])
    assert [verdict.kind for verdict in verdicts] in (["cpu", "passed"], ["wall", "passed"])
    with held_out.ParseJudge(hasty.model_copy(update={"cpu_seconds": 60.0, "wall_seconds": 0.5})) as judge:
        assert judge.judge([sql.job(endless)])[0].kind == "wall"


def test_the_benchmark_is_what_was_asked_for(folder):
    some = load_benchmark("mine", section_of(folder, languages=["css"], gaps=["line"])).problems
    assert {(problem.language, problem.kind) for problem in some} == {("css", ""), ("css", "line")}
    none = load_benchmark("mine", section_of(folder, gaps=[])).problems
    assert {problem.form for problem in none} == {"document"}
    filled = load_benchmark("mine", section_of(folder, form="fim")).problems
    assert all(problem.fills_in for problem in filled if problem.form == "gap")
    for problem in filled:
        if problem.form == "gap":
            name = problem.task_id.split(":")[0]
            assert problem.prompt + problem.gold + problem.suffix == (folder / name).read_text()


def test_the_shards_of_a_prepared_corpus_are_measured_as_texts(corpus):
    section = section_of(corpus, files=20, parse=False)
    problems = load_benchmark("mine", section).problems
    documents = [problem for problem in problems if problem.form == "document"]
    assert {problem.language for problem in documents} == {"python", "c"}
    source = "".join(path.read_text() for path in Path(sysconfig.get_path("stdlib"), "email").rglob("*.py"))
    source += "".join(path.read_text() for path in Path(sysconfig.get_path("stdlib"), "json").rglob("*.py"))
    python = [problem.gold for problem in documents if problem.language == "python"]
    assert python
    assert all(text in source for text in python if "<EMAIL>" not in text)
    with pytest.raises(EvaluationError, match="has no split tset; it has train, validation"):
        load_benchmark("mine", section.model_copy(update={"split": "tset"}))


def test_anyones_gaps_make_a_benchmark():
    gap = held_out.Gap("g", "line", "css", "a {\n", "}\n", "    color: red;\n")
    benchmark = held_out.benchmark_of("x", "X", [held_out.Document("d", "css", CSS)], [gap], "left_to_right", True)
    assert [problem.form for problem in benchmark.problems] == ["document", "gap"]
    assert benchmark.problems[1].judge == PARSER


@pytest.mark.parametrize(
    ("language", "good", "bad"),
    [
        ("markdown", "# A\n\n```py\nx = 1\n```\n\n> ~~~\n> y\n> ~~~\n", "# A\n\n```py\nx = 1\n"),
        ("restructuredtext", "Title\n=====\n\n.. note:: *b*\n", "Title\n=====\n\n.. image::\n\n*b\n"),
        ("html", "<div><p>a</p></div>", "<div><p>a</div></span>"),
        ("html", "<ul><li>a<li>b<br></ul><script>let a = 1;</script>", "<ul><li>a</ul><script>let a = ;</script>"),
        ("html", "<style>a { b: c }</style>", "<style>a { b: c</style>"),
        ("html", '<script type="text/template">{{#a}}</script>', "<div><p></p>"),
        ("css", "a { color: red; }", "a { color: red"),
        ("vue", "<template><div>{{ a }}</div></template>\n", "<template><div>{{ a }}</template>\n"),
        ("vue", '<script setup lang="ts">\nlet a: number = 1\n</script>\n', "<script>\nlet a = {\n</script>\n"),
        ("jsx", "const a = <b x={1}>t</b>;\n", "const a = <b x={1}>t</c;\n"),
        ("sql", "SELECT a FROM b WHERE c = 1;", "SELECT FROM WHERE"),
        ("typescript", "const a = <string>b; let c: number = 1;", "const a: = 1"),
        ("jupyter", "x = 1\n", "x = (\n"),
    ],
)
def test_real_parsers_tell_broken_files(language, good, bad):
    assert is_well_formed(language, good)
    assert not is_well_formed(language, bad)


def test_every_language_has_a_parser():
    assert all(is_well_formed(language, "") is not None for language in LANGUAGES)


def test_docutils_reads_no_files(tmp_path):
    (tmp_path / "secret.txt").write_text("hidden")
    assert not is_well_formed("restructuredtext", f".. include:: {tmp_path}/secret.txt\n")
    assert not is_well_formed("restructuredtext", ".. raw:: html\n\n   <p>\n")


def test_likeness_is_of_texts():
    assert exact_match("  a = 1  \n", "  a = 1\n")
    assert not exact_match("a = 1\n", "  a = 1\n")
    assert edit_similarity("abcd", "abed") == 0.75
    assert identifier_match("a=f( b )", "a = f(b)")
    assert not identifier_match("a = f(b, c)", "a = f(c, b)")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"path": "/absent"}, "is no folder; name one of files, of shards, or of a repository benchmark"),
        ({"languages": ["rust"]}, "holds no file in rust that can be measured"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(folder, changed, message):
    with pytest.raises(EvaluationError, match=message):
        load_benchmark("mine", section_of(folder).model_copy(update=changed))


def test_misspelt_languages_and_missing_names_are_refused(folder):
    with pytest.raises(ValueError, match="did you mean python"):
        section_of(folder, languages=["pyton"])
    with pytest.raises(ValueError, match="each needs a name of its own"):
        TasksSection.model_validate({"held_out": {"path": str(folder)}})


def test_absent_parsers_are_named(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tree_sitter_language_pack", None)
    held_out.is_well_formed.__globals__["parser_of"].cache_clear()
    try:
        with pytest.raises(EvaluationError, match=r"pip install 'codelm\[parse\]', or `parse: false`"):
            load_benchmark("mine", section_of(folder))
    finally:
        held_out.is_well_formed.__globals__["parser_of"].cache_clear()
