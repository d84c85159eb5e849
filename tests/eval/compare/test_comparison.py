"""A comparison from result folders: what it pairs, refuses, notes, finds; and the page's words."""

import re

import pytest

from codelm.errors import EvaluationError
from codelm.eval.compare.blocks import Text
from codelm.eval.compare.changes import OWN, find_changes
from codelm.eval.compare.comparison import Appendix, compare, write
from codelm.eval.compare.folders import is_results_folder, names_of, read_system
from codelm.eval.compare.measures import cluster_of
from codelm.eval.compare.paired import mcnemar, tango
from codelm.eval.compare.story import tell, title_of
from codelm.eval.results import write_lines

HALF = [True, False] * 10


def one(changes, metric, system=None):
    (found,) = (c for c in changes if c.metric == metric and system in (None, c.system))
    return found


def test_scores_are_paired_by_problem(humaneval_results, system):
    base = humaneval_results("base", [True] * 4 + [False] * 16, [1.0] * 20)
    tuned = humaneval_results("tuned", [True] * 3 + [False] + [True] * 9 + [False] * 7, [0.9] * 19 + [1.1])
    changes = find_changes([system(base), system(tuned)])
    passed = one(changes, "pass@1")
    assert (passed.difference.first, passed.difference.second) == (0.2, 0.6)
    assert (passed.difference.rose, passed.difference.fell) == (9, 1)
    assert passed.p == mcnemar(9, 1)
    assert (passed.difference.low, passed.difference.high) == tango(9, 1, 20)
    assert passed.verdict == "better"
    bits = one(changes, "gold_bpb")
    assert bits.difference.value == pytest.approx(-0.09)
    assert (bits.lower_is_better, bits.verdict) == (True, "better")


def test_several_samples_are_pass_at_k_of_each_problem(humaneval_results, system):
    base = humaneval_results("base", [[True] + [False] * 9] * 12, num_samples=10)
    tuned = humaneval_results("tuned", [[True] * 4 + [False] * 6] * 12, num_samples=10)
    changes = find_changes([system(base), system(tuned)])
    assert [change.metric for change in changes] == ["pass@1", "pass@10"]
    assert one(changes, "pass@1").difference.value == pytest.approx(0.3)
    assert one(changes, "pass@1").verdict == "better"
    assert one(changes, "pass@10").difference.value == 0.0
    assert one(changes, "pass@10").verdict == "unchanged"


def test_a_new_tasks_numbers_need_no_change_here(humaneval_results, other_results, system):
    def lines(bits, similarity):
        return [
            {"task_id": f"src/a{n // 4}.py:line@{n}", "bits": bits * (1 + n % 3), "bytes": 10 * (1 + n % 3),
             "edit_similarity": similarity, "exact_match": n < 5, "language": "python"}
            for n in range(40)
        ]  # fmt: skip

    systems = []
    for name, bits, similarity in (("base", 9.0, 0.4), ("tuned", 8.0, 0.6)):
        parent = humaneval_results(name, HALF)
        systems.append(system(other_results(parent, "mine", lines(bits, similarity), gaps=["line"])))
    changes = [change for change in find_changes(systems) if change.benchmark == "mine"]
    assert {change.metric for change in changes} == {"bits_per_byte", "edit_similarity", "exact_match"}
    bits = one(changes, "bits_per_byte")
    assert (bits.difference.first, bits.difference.second) == pytest.approx((0.9, 0.8))
    assert (bits.difference.n, bits.difference.clusters) == (40, 10)
    assert (bits.verdict, bits.own) == ("better", True)
    assert one(changes, "edit_similarity").verdict == "better"
    assert one(changes, "exact_match").verdict == "unchanged"


def test_documents_are_weighed_by_bytes_and_completions_of_them_are_not_passed(
    humaneval_results, other_results, system
):
    """The files of a `held_out` task: bits of whole files in gold.jsonl, gaps that are compared or parsed."""
    systems = []
    for name, bits, right in (("base", 90, False), ("tuned", 80, True)):
        parent = other_results(humaneval_results(name, HALF), "replay", [], {}, gaps=["line"])
        folder = parent / "replay"
        gold = [{"task_id": f"c/f{n}.c", "bits": bits * (1 + n), "bytes": 100 * (1 + n)} for n in range(8)]
        write_lines(folder / "gold.jsonl", gold)
        verdicts = [
            {"task_id": f"c/f{n}.c:line@3", "sample": 0, "verdict": kind, "passed": kind == "passed",
             "judge": "parser", "completion": "x"}
            for n, kind in enumerate(["passed" if right else "failed"] * 7 + ["compared"])
        ]  # fmt: skip
        write_lines(folder / "verdicts.humaneval-1.jsonl", verdicts)
        write_lines(folder / "likeness.jsonl", [{"task_id": row["task_id"], "exact_match": right} for row in verdicts])
        systems.append(system(parent))
    changes = [change for change in find_changes(systems) if change.benchmark == "replay"]
    assert {change.metric for change in changes} == {"parses", "bits_per_byte", "exact_match"}
    assert (one(changes, "bits_per_byte").difference.first, one(changes, "bits_per_byte").difference.n) == (0.9, 8)
    assert (one(changes, "parses").difference.value, one(changes, "parses").difference.n) == (1.0, 7)
    assert one(changes, "exact_match").difference.n == 8


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (OWN, {"texts"}),
        (["repository", "held_out"], {"texts"}),
        (["human"], {"humaneval"}),
        (["replay"], {"replay_2"}),
        (["held_out", "replay_2"], {"texts", "replay_2"}),
    ],
)
def test_a_replay_set_is_your_code_only_where_it_is_named_itself(
    humaneval_results, other_results, system, own, expected
):
    systems = []
    for name in ("base", "tuned"):
        parent = humaneval_results(name, HALF)
        for task in ("texts", "replay_2"):
            other_results(parent, task, [{"task_id": "a.c:line@1", "exact_match": 1}], gaps=["line"])
        systems.append(system(parent))
    assert {change.benchmark for change in find_changes(systems, own) if change.own} == expected


@pytest.mark.parametrize(
    ("task_id", "cluster"),
    [
        ("toolz/itertoolz.py::merge_sorted:body", "toolz/itertoolz.py::merge_sorted"),
        ("toolz/itertoolz.py::merge_sorted:statement@12", "toolz/itertoolz.py::merge_sorted"),
        ("docs/index.md:line@4", "docs/index.md"),
        ("SingleLineInfilling/HumanEval/3/L1", "HumanEval/3"),
        ("HumanEval/3", "HumanEval/3"),
    ],
)
def test_what_is_not_independent_is_known_by_its_id(task_id, cluster):
    assert cluster_of(task_id) == cluster


def test_masks_of_one_function_are_one_group(humaneval_results, other_results, system):
    ids = [f"a.py::f{n // 10}:statement@{n}" for n in range(50)]
    systems = [
        system(other_results(humaneval_results(name, HALF), "repository", [], dict.fromkeys(ids, right)))
        for name, right in (("base", False), ("tuned", True))
    ]
    passed = one([change for change in find_changes(systems) if change.own], "pass@1")
    assert passed.difference.clusters == 5
    assert passed.verdict == "too few"


def test_kinds_of_gaps_are_also_compared_apart(humaneval_results, other_results, system):
    ids = [f"a.py::f{n}:{kind}" for n in range(12) for kind in ("body", "statement@3")]
    systems = [
        system(other_results(
            humaneval_results(name, HALF), "mine", [],
            {task_id: name == "tuned" and task_id.endswith("body") for task_id in ids}, masks=["body", "statement"],
        ))
        for name in ("base", "tuned")
    ]  # fmt: skip
    slices = compare(systems).slices
    assert [(change.kind, change.difference.value) for change in slices] == [("body", 1.0), ("statement", 0.0)]
    assert [change.verdict for change in slices] == ["better", "unchanged"]
    assert all(change.own for change in slices)


def test_several_systems_are_corrected_together(humaneval_results, system):
    base = system(humaneval_results("base", [False] * 20))
    others = [system(humaneval_results(f"t{n}", [True] * n + [False] * (20 - n))) for n in (6, 7, 1)]
    changes = find_changes([base, *others])
    alone = [mcnemar(n, 0) for n in (6, 7, 1)]
    assert [change.difference.p for change in changes] == alone
    assert [change.p for change in changes] == pytest.approx([2 * alone[0], 3 * alone[1], 1.0])
    assert [change.verdict for change in changes] == ["unchanged", "better", "unchanged"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"problems_sha256": "x"}, "tuned was evaluated on other problems than base"),
        ({"prompts_sha256": "x"}, "tuned was evaluated on other prompts than base"),
        ({"temperature": 0.8}, "temperature was 0.0 for base and 0.8 for tuned"),
        ({"max_new_tokens": 64}, "allow it with --allow max_new_tokens"),
    ],
)
def test_what_cannot_be_compared_is_refused(humaneval_results, system, changed, message):
    systems = [system(humaneval_results("base", HALF)), system(humaneval_results("tuned", HALF, **changed))]
    with pytest.raises(EvaluationError, match=re.escape(message)):
        compare(systems)


def test_a_checkpoint_that_moved_on_in_between_is_refused(humaneval_results, other_results, system):
    base, tuned = humaneval_results("base", HALF), humaneval_results("tuned", HALF)
    other_results(tuned, "mine", [], {"a": True}, dtype="float32", weights_sha256="later")
    with pytest.raises(EvaluationError, match="tuned: humaneval and mine are of different weights"):
        compare([system(base), system(tuned)])


def test_what_merely_differs_is_said(humaneval_results, system):
    base = humaneval_results("base", HALF)
    versions = {"codelm": "1", "torch": "2.7.0"}
    tuned = humaneval_results("tuned", HALF, dtype="bfloat16", versions=versions, max_new_tokens=64)
    notes = compare([system(base), system(tuned)], allowed=["max_new_tokens"]).notes
    assert notes == [
        "humaneval: dtype differs: base float32, tuned bfloat16",
        "humaneval: max_new_tokens differs: base 512, tuned 64",
        "humaneval: versions differs: base torch 2.11.0, tuned torch 2.7.0",
    ]


def test_another_profile_is_refused_and_can_be_chosen(humaneval_results, system):
    folders = [humaneval_results(name, HALF) for name in ("base", "tuned")]
    tuned = folders[1] / "humaneval"
    text = (tuned / "summary.json").read_text()
    (tuned / "summary.json").write_text(text.replace('"profile": "humaneval-1"', '"profile": "none-1"'))
    (tuned / "verdicts.none-1.jsonl").write_bytes((tuned / "verdicts.humaneval-1.jsonl").read_bytes())
    with pytest.raises(EvaluationError, match="base was scored with the post-processing profile humaneval-1, tuned"):
        compare([system(folder) for folder in folders])
    assert compare([read_system(folder.parent.name, folder, (), "humaneval") for folder in folders]).changes
    with pytest.raises(EvaluationError, match="was never scored with the profile bigcode"):
        read_system("base", folders[0], (), "bigcode")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "summary.json").unlink(), "is not finished"),
        (lambda folder: (folder / "summary.json").write_text("{"), "is damaged: run the evaluation again"),
        (lambda folder: (folder / "settings.json").write_text("{"), "is damaged: evaluate again"),
        (lambda folder: (folder / "verdicts.humaneval-1.jsonl").unlink(), "holds no result of any problem"),
        (lambda folder: (folder / "verdicts.humaneval-1.jsonl").write_text('{"a": 1}\n'), "none of an evaluation's"),
    ],
)
def test_a_damaged_folder_is_named(humaneval_results, system, spoil, message):
    folder = humaneval_results("base", HALF)
    spoil(folder / "humaneval")
    with pytest.raises(EvaluationError, match=re.escape(message)):
        system(folder)


def test_an_unknown_benchmark_is_refused(humaneval_results):
    folder = humaneval_results("base", HALF)
    assert read_system("base", folder, ["human"]).benchmarks.keys() == {"humaneval"}
    assert read_system("base", folder / "humaneval").benchmarks.keys() == {"humaneval"}
    with pytest.raises(EvaluationError, match="did you mean humaneval"):
        read_system("base", folder, ["humanevla"])


def test_a_checkpoint_is_no_results_folder(tmp_path):
    assert not is_results_folder(tmp_path / "absent")
    assert not is_results_folder(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["runs/base/eval", "runs/tuned/eval"], ["base", "tuned"]),
        (["runs/base", "runs/tuned/eval"], ["base", "tuned-eval"]),
        (["a=runs/x", "b=runs/x"], ["a", "b"]),
        (["org/model", "runs/tuned"], ["org-model", "runs-tuned"]),
    ],
)
def test_systems_are_called_by_where_their_paths_differ(arguments, names):
    assert [name for name, _ in names_of(arguments)] == names


def test_equal_names_are_refused():
    with pytest.raises(EvaluationError, match="write NAME=PATH to tell them apart"):
        names_of(["a=x", "a=y"])


@pytest.fixture
def compared(humaneval_results, other_results, system):
    ids = [f"pkg/m{n}.py::f:body" for n in range(30)]
    systems = []
    for name, solved in (("base", 6), ("tuned", 20)):
        parent = humaneval_results(
            name, [True] * 5 + [name == "base"] + [False] * 14, [1.0 if name == "base" else 1.01] * 20
        )
        passed = {task_id: n < solved for n, task_id in enumerate(ids)}
        systems.append(system(other_results(parent, "repository", [], passed)))
    return compare(systems)


def test_the_verdict_is_one_sentence_about_the_users_code_and_the_rest(compared):
    (sentence,) = compared.verdicts()
    assert sentence.startswith("On your code: pass@1 rose from 20.0 % to 66.7 % (+46.7 points, 95 % interval +")
    assert "; elsewhere: HumanEval: bits per byte of the reference solutions rose from 1.000 to 1.010 (+0" in sentence
    assert "no measurable change in HumanEval: pass@1 (−5.0 points, " in sentence


def test_what_was_lost_is_shown_beside_what_was_there(compared, references):
    assert compared.moved["tuned"]["humaneval"] == {"gained": [], "lost": ["HumanEval/5"]}
    (example,) = compared.examples["tuned"]["humaneval"]
    assert example.prompt.endswith(references[5].prompt[-60:])
    assert (example.first, example.second) == (references[5].gold, "    pass\n")
    assert example.verdicts == ("passed", "failed: AssertionError: assert candidate(1) == 2")


def test_the_files_are_whole_and_the_same_each_time(compared, tmp_path):
    blocks = tell(compared)
    page = write(compared, tmp_path / "a", title_of(compared), blocks)
    write(compared, tmp_path / "b", title_of(compared), tell(compared))
    for name in ("compare.html", "compare.md", "compare.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    text = page.read_text()
    assert "<h2>On your code</h2>" in text
    assert "<h2>Elsewhere: what it may have forgotten</h2>" in text
    assert "lost: HumanEval/5" in text
    assert not re.findall(r'(?:src|href)="|@import|url\(|<script', text)
    markdown = (tmp_path / "a" / "compare.md").read_text()
    markdown = markdown.replace("\N{NO-BREAK SPACE}", " ")
    assert "| repository: pass@1 | better | 20.0 % | 66.7 % | +46.7 points |" in markdown


def test_what_was_not_looked_at_is_not_passed_off_as_clean(compared, humaneval_results, other_results, system):
    def notes(comparison):
        return [block.text for block in tell(comparison) if isinstance(block, Text) and "Not looked at" in block.text]

    memorised, trained = "says its training data by heart (--audit)", "was trained on these problems (--audit)"
    (note,) = notes(compared)
    assert note.startswith("Not looked at, which does not mean clean: ")
    assert memorised in note
    assert trained in note
    assert "forgot of the texts that the first one knew (--replay)" in note
    compared.appendices.append(Appendix("memorisation", (), {}))
    (note,) = notes(compared)
    assert memorised not in note
    assert trained in note
    parents = [humaneval_results(name, HALF) for name in ("a", "b")]
    row = {"task_id": "a.c:line@1", "exact_match": 1}
    replayed = compare([system(other_results(parent, "replay", [row], gaps=["line"])) for parent in parents])
    replayed.appendices.extend(Appendix(key, (), {}) for key in ("memorisation", "contamination"))
    assert notes(replayed) == []


def test_what_a_model_wrote_cannot_act_on_the_page(humaneval_results, system, tmp_path):
    folders = [humaneval_results(name, [name == "base", *HALF]) for name in ("base", "tuned")]
    file = folders[1] / "humaneval" / "verdicts.humaneval-1.jsonl"
    file.write_text(file.read_text().replace("    pass\\n", "<script>alert(1)</script>|``````"))
    comparison = compare([system(folder) for folder in folders])
    page = write(comparison, tmp_path / "out", "t", tell(comparison)).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "```````\n<script>" in (tmp_path / "out" / "compare.md").read_text()
