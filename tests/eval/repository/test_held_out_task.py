"""The held-out files of a repository's benchmark, as the task `held_out` takes them."""

from codelm.config.evaluation.tasks import HeldOutSection
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.repository import items


def test_a_benchmarks_held_out_files_are_what_the_task_measures(built):
    problems = load_benchmark("mine", HeldOutSection(path=str(built.folder), parse=False)).problems
    benchmark = items.load(built.folder, None)
    assert [problem.task_id for problem in problems if problem.form == "gap"] == [item.id for item in benchmark.textual]
    documents = {problem.task_id: problem.gold for problem in problems if problem.form == "document"}
    assert documents == {path: text for path, _, text in benchmark.held_out}
