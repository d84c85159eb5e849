"""Programs of other languages: judged by a marker that finished tests print, never by an exit status."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

import codelm
from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import TasksSection, tasks_of
from codelm.errors import EvaluationError
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.mutations import text_mutants
from codelm.eval.postprocess import PROFILES
from codelm.eval.programs import samples, toolchains
from codelm.eval.programs.judge import ProgramJudge
from codelm.eval.programs.marker import PLACEHOLDER, mark
from codelm.languages import LANGUAGES

QUICK = ("sh", "js", "php", "c")
SLOW = [name for name in toolchains.TOOLCHAINS if name not in QUICK]
BOUNDS = SandboxSection(num_workers=2, cpu_seconds=10.0, wall_seconds=30.0, memory_bytes=1 << 29)


def found_or_skip(name):
    try:
        return toolchains.find(name)
    except EvaluationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def judge_of():
    """A running judge of a language; skips where its toolchain is absent."""
    judges = {}

    def start(name):
        if name not in judges:
            judges[name] = ProgramJudge(found_or_skip(name), BOUNDS)
        return judges[name]

    yield start
    for judge in judges.values():
        judge.close()


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_right_programs_pass_and_wrong_and_forged_ones_do_not(judge_of, name):
    judge, problem = judge_of(name), samples.problem(name)
    wrong = dict(list(text_mutants(problem.gold))[: 2 if name in QUICK else 1])
    correct, forged = samples.correct(name), samples.forged(name)
    completions = {**correct, **wrong, **forged}
    verdicts = judge.judge([problem.job(text, id=what) for what, text in completions.items()])
    outcome = {verdict.id: (verdict.passed, verdict.kind, verdict.detail) for verdict in verdicts}
    assert {what for what, (passed, *_) in outcome.items() if passed} == set(correct), outcome
    assert {outcome[what][1] for what in wrong} <= {"failed"}, outcome
    assert {outcome[what][1] for what in forged} == {"never-finished"}, outcome
    assert {verdict.judge for verdict in verdicts} == {"in_process"}


@pytest.mark.parametrize(
    ("kind", "body", "bounds"),
    [
        ("cpu", "while :; do :; done", {"cpu_seconds": 0.5}),
        ("wall", "read -t 30 < <(sleep 30)", {"wall_seconds": 0.1}),
        ("output", "while :; do echo xxxxxxxxxxxxxxxx >&2; done", {"output_bytes": 1 << 16}),
        ("memory", "s=x; while :; do s=$s$s; done", {"memory_bytes": 1 << 26}),
        ("failed", "cat /etc/passwd || exit 3", {}),
        ("crashed", "kill -SEGV $$", {}),
    ],
)
def test_what_a_program_may_take_is_bounded(kind, body, bounds):
    problem = samples.problem("sh")
    with ProgramJudge(found_or_skip("sh"), BOUNDS.model_copy(update={"num_workers": 1, **bounds})) as judge:
        (verdict,) = judge.judge([problem.job(f"    {body}\n{problem.gold}")])
    assert verdict.kind == kind, verdict.detail


def test_programs_get_no_network_and_no_files_of_ours(judge_of, tmp_path):
    judge, problem = judge_of("sh"), samples.problem("sh")
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    tries = [
        f"cat {secret}",
        f"echo x > {tmp_path}/written",
        "exec 5<>/dev/tcp/127.0.0.1/1",
        "ls /root",
        "env | grep -i token",
    ]
    bodies = [f"    if {attempt} >&2 2>/dev/null; then echo reached; return; fi\n{problem.gold}" for attempt in tries]
    verdicts = judge.judge([problem.job(body) for body in bodies])
    assert [verdict.kind for verdict in verdicts] == ["passed"] * len(tries)
    assert not (tmp_path / "written").exists()


_AS_NOBODY = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from codelm.eval.judge.worker import serve
from codelm.eval.programs.worker import Worker
from codelm.eval.sandbox import kernel
from codelm.eval.sandbox.confine import Limits
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
serve(Worker(Limits(wall_seconds=60.0), json.loads(sys.stdin.readline())))
"""


def test_an_ordinary_user_can_run_what_it_compiled():
    """Though the linker may not say that it is a program: changing modes is denied to what runs as ourselves."""
    problem, found = samples.problem("c"), found_or_skip("c")
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", _AS_NOBODY, str(Path(codelm.__file__).parents[1])],
        input="\n".join(map(json.dumps, (found.to_dict(), problem.job(problem.gold).to_dict()))) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd="/",
    )
    hello, verdict = map(json.loads, done.stdout.splitlines())
    assert (hello["isolation"]["fresh_user"], verdict["kind"]) == (False, "passed"), verdict


def test_what_does_not_compile_is_a_failure_that_says_why(judge_of):
    (verdict,) = judge_of("c").judge([samples.problem("c").job("    return nothing;\n")])
    assert verdict.kind == "failed"
    assert verdict.detail.startswith("it does not compile: program.c:")
    assert "nothing" in verdict.detail


def test_a_completion_of_ten_megabytes_gets_a_verdict(judge_of):
    problem = samples.problem("c")
    huge = [f"/* {'x' * 10_000_000} */\n{problem.gold}", "x" * 10_000_000]
    verdicts = judge_of("c").judge([problem.job(text) for text in huge])
    assert [verdict.kind for verdict in verdicts] == ["passed", "failed"]
    assert all(len(verdict.detail) < 500 for verdict in verdicts)


@pytest.mark.parametrize(
    ("name", "forgery"),
    [
        (
            "js",
            "console.log(require('fs').readFileSync(__filename, 'utf8').match(/[0-9a-f]{32}/)[0]); process.exit()\n}\n",
        ),
        ("c", "#undef assert\n#define assert(claim)\n    return 0;\n"),
    ],
    ids=["reads its own source", "defines assert away"],
)
def test_beside_its_tests_a_program_can_forge_a_pass_as_documented(judge_of, name, forgery):
    (verdict,) = judge_of(name).judge([samples.problem(name).job(forgery)])
    assert (verdict.kind, verdict.judge) == ("passed", "in_process")


def test_an_absent_toolchain_names_the_package_that_brings_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    toolchains.find.cache_clear()
    try:
        for name, toolchain in toolchains.TOOLCHAINS.items():
            if name != "py":
                with pytest.raises(EvaluationError, match=f"apt install {toolchain.packages[0]}"):
                    toolchains.find(name)
    finally:
        toolchains.find.cache_clear()


def test_what_is_missing_is_named_for_apt(monkeypatch, tmp_path):
    monkeypatch.setattr(toolchains, "find", lambda name: None)
    assert toolchains.missing_packages() == []

    def absent(name):
        raise EvaluationError("absent")

    monkeypatch.setattr(toolchains, "find", absent)
    packages = toolchains.missing_packages()
    assert {"g++", "default-jdk-headless", "libjavatuples-java", "ruby-test-unit", "node-typescript"} <= set(packages)
    assert len(packages) == len(set(packages))


def test_every_toolchain_is_of_one_of_our_languages_and_has_a_sample():
    assert {toolchain.language for toolchain in toolchains.TOOLCHAINS.values()} <= set(LANGUAGES)
    assert set(samples.SAMPLES) == set(toolchains.TOOLCHAINS)
    for name in samples.SAMPLES:
        assert samples.problem(name).test.count(PLACEHOLDER) == 1


def test_tests_that_end_otherwise_are_refused():
    with pytest.raises(EvaluationError, match=r"x\.jsonl: its tests do not end as java tests do; copy the file again"):
        mark("java", "void main() {", "x.jsonl")


@pytest.fixture
def multipl_e(tmp_path):
    """A folder in MultiPL-E's format with two languages."""
    for name, stop in (("sh", ["\n}"]), ("js", ["\nfunction ", "\n//"])):
        sample = samples.SAMPLES[name]
        row = {"name": "HumanEval_1_score", "language": name, "prompt": sample.prompt, "tests": sample.tests}
        line = json.dumps({**row, "stop_tokens": stop}) + "\n"
        (tmp_path / f"humaneval-{name}.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    return tmp_path


def sections(**section):
    return TasksSection.model_validate({"multipl_e": section}).chosen()


def test_each_language_of_multipl_e_is_a_benchmark_with_its_versions(multipl_e):
    chosen = sections(path=str(multipl_e), languages=["sh"])
    assert list(chosen) == ["multipl_e-sh"]
    found_or_skip("sh")
    benchmark = load_benchmark("multipl_e-sh", chosen["multipl_e-sh"])
    assert benchmark.title == "MultiPL-E humaneval Bash"
    assert benchmark.versions["bash"].startswith("GNU bash")
    (problem,) = benchmark.problems
    assert (problem.language, problem.judge, problem.gold) == ("shell", "in_process", "")
    completion = samples.SAMPLES["sh"].reference + "}\nmore() {\n"
    assert PROFILES["multipl-e"].cut(problem, completion, False) == samples.SAMPLES["sh"].reference.removesuffix("\n")
    assert PROFILES["humaneval"].cut(problem, completion, False) == PROFILES["multipl-e"].cut(
        problem, completion, False
    )
    finished = PROFILES["humaneval"].finished
    assert finished is not None
    assert [finished(problem, text) for text in (completion, "    local x\n")] == [True, False]
    with benchmark.open_judge(BOUNDS) as judge:
        kinds = [v.kind for v in judge.judge([problem.job(samples.SAMPLES["sh"].reference), problem.job("    :\n")])]
    assert kinds == ["passed", "failed"]


def test_a_language_of_multipl_e_survives_the_way_to_another_process(multipl_e):
    for name, section in sections(path=str(multipl_e), languages=["sh", "js"]).items():
        assert TasksSection.model_validate(tasks_of(name, section)).chosen() == {name: section}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"languages": ["js", "js"]}, "js is named twice"),
        ({"languages": []}, "at least 1 item"),
        ({"gold": True}, "False"),
    ],
)
def test_sections_that_make_no_sense_are_refused(section, message):
    with pytest.raises(ValueError, match=message):
        sections(**section)


def test_a_file_of_another_language_or_none_is_refused(multipl_e):
    found_or_skip("js")
    path = str(multipl_e / "humaneval-sh.jsonl.gz")
    with pytest.raises(EvaluationError, match="holds problems in sh, not js; give the folder of all files"):
        load_benchmark("multipl_e-js", sections(path=path, languages=["js"])["multipl_e-js"])
    found_or_skip("php")
    with pytest.raises(EvaluationError, match=r"there is no file .*humaneval-php.jsonl.gz"):
        load_benchmark("multipl_e-php", sections(path=str(multipl_e), languages=["php"])["multipl_e-php"])
