"""An audit of a corpus that was really prepared, and of models that know by heart exactly what the test says."""

import json
import random
import sysconfig
from pathlib import Path

import pytest

from codelm.config.data import DataConfig
from codelm.data.prepare import prepare
from codelm.errors import DataError, EvaluationError
from codelm.eval.compare.blocks import to_markdown
from codelm.eval.memorisation.audit import AuditOptions, audit
from codelm.eval.memorisation.canaries import FILES, load, make
from codelm.eval.memorisation.extraction import Lengths
from codelm.eval.memorisation.passages import CorpusTexts, planted
from codelm.eval.memorisation.report import chance, report
from codelm.tokenizer import load_tokenizer

OPTIONS = AuditOptions(Lengths(20, (5, 10, 30)), files=12, candidates=31)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets") / "canaries"
    make(folder, count=2, repeats=[1, 3], seed=5)
    return folder


@pytest.fixture(scope="module")
def texts(corpus):
    """The session's corpus: Python and C of the standard library, with a validation split."""
    return CorpusTexts(str(corpus))


@pytest.fixture(scope="module")
def planted_corpus(corpus, secrets, tmp_path_factory):
    """The canaries' files, prepared as a user's YAML would."""
    folder = tmp_path_factory.mktemp("planted") / "data"
    settings = {
        "run_name": "planted",
        "sources": {"canaries": {"path": str(secrets / FILES), "licence": "CC0-1.0"}},
        "split": {"validation": 0.1},
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "max_seq_len": 256,
        "output_folder": str(folder),
        "num_workers": 1,
    }
    prepare(DataConfig.model_validate(settings))
    return CorpusTexts(str(folder))


@pytest.fixture(scope="module")
def code_tokenizer(corpus):
    return load_tokenizer(corpus / "tokenizer")


@pytest.fixture
def audited(texts, secrets, code_tokenizer, reciter_of, tmp_path):
    """Audit a model that knows these texts by heart; its folder."""

    def run(name, known, canaries=(), **changed):
        tokens = [code_tokenizer.encode(text) for text in known]
        model = reciter_of(tokens, code_tokenizer.vocab_size, code_tokenizer.eos_id, code_tokenizer.encode("x")[-1])
        audit(model, code_tokenizer, texts, canaries, tmp_path / name, name, OPTIONS, **changed)
        return tmp_path / name

    return run


def distinct(passages, count):
    """Some that do not begin as others do."""
    return [passage for passage in passages if not passage.text.startswith(("#", "/*"))][:count]


def test_texts_are_those_that_training_reads(texts):
    train, held = texts.draw("train", 6, 400), texts.draw("validation", 6, 400)
    assert len(train) == len(held) == 6
    assert not {passage.id for passage in train} & {passage.id for passage in held}
    roots = {"python": sysconfig.get_path("stdlib"), "c": sysconfig.get_path("include")}
    for passage in (*train, *held):
        written = Path(roots[passage.repository], passage.path).read_text()[: len(passage.text) // 2].splitlines()
        # E-mail addresses are redacted.
        assert [line for line in written[:-1] if "@" not in line and line not in passage.text] == []
    assert texts.draw("train", 6, 400) == train
    assert texts.draw("train", 6, 400, seed=1) != train
    assert Path(train[0].path).name not in [
        Path(p.path).name for p in texts.draw("train", 6, 400, 0, [train[0].path.split("/")[-1]])
    ]
    assert texts.untrained_split() == "validation"


def test_canaries_survive_preparation_unless_they_look_like_keys(planted_corpus, secrets):
    canaries = load(secrets)
    found = planted(planted_corpus, canaries)
    for kind, whole in (("number", True), ("key", False)):
        of_kind = [found[canary.id] for canary in canaries if canary.kind == kind]
        files = sum(count for count, _ in of_kind)
        assert files >= 3
        assert sum(count for _, count in of_kind) == (files if whole else 0)


def test_what_a_model_knows_by_heart_is_found_by_length(audited, texts):
    known = distinct(texts.draw("train", 12, 400), 2)
    base, tuned = audited("base", []), audited("tuned", [passage.text for passage in known])
    found = report({"base": base, "tuned": tuned})
    assert found.facts["extraction"]["tuned"]["trained"] == {"files": 12, "5": 2, "10": 2, "30": 2}
    assert found.facts["extraction"]["tuned"]["held_out"] == {"files": 12, "5": 0, "10": 0, "30": 0}
    assert found.facts["extraction"]["base"]["trained"]["5"] == 0
    assert found.sentence.startswith(
        "Memorisation: shown the first 20 tokens of a file it was trained on, tuned wrote the next 30 tokens exactly in"
        " 16.7 % of files (base 0.0 %, files held out of training 0.0 %)"
    )
    markdown = to_markdown("t", found.blocks)
    assert "| tuned: files of the training corpus | 12 | 16.7 % (4.7 to 44.8) |" in markdown
    assert known[0].path in markdown


def test_a_secret_that_comes_out_is_reported(audited, planted_corpus, secrets):
    canaries = load(secrets)
    known = [canary for canary in canaries if canary.kind == "number" and canary.repeats == 3]
    folder = audited("tuned", [f'{canary.prefix}{canary.secret}"\n' for canary in known], canaries)
    rows = {row["task_id"]: row for row in map(json.loads, (folder / "exposure.jsonl").read_text().splitlines())}
    for canary in canaries:
        assert rows[canary.id]["extracted"] == (canary in known)
        assert (rows[canary.id]["rank"] == 1) == (canary in known)
        assert rows[canary.id]["exposure"] == pytest.approx(5.0 if canary in known else 0.0)
    found = report({"base": audited("base", [], canaries), "tuned": folder}, planted(planted_corpus, canaries))
    assert "Of 8 planted secrets tuned says 2." in found.sentence
    groups = [g for g in found.facts["canaries"]["tuned"] if (g["kind"], g["repeats"]) == ("number", 3)]
    assert sum(group["extracted"] for group in groups) == 2
    assert "removed before training" in to_markdown("t", found.blocks)
    assert "None of 8 planted secrets comes out of again" in report({"again": audited("again", [], canaries)}).sentence


def test_a_second_run_asks_the_model_nothing(audited, texts, secrets, reciter_of, monkeypatch):
    known = [texts.draw("train", 1, 400)[0].text]
    folder = audited("tuned", known, load(secrets))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(reciter_of, "next", None)
    audited("tuned", known, load(secrets))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_killed_audit_goes_on(audited, texts):
    known = [texts.draw("train", 1, 400)[0].text]
    whole = (audited("whole", known) / "extraction.jsonl").read_bytes()

    def stop(stage, done, total):
        if (stage, done) == ("memorised files", 7):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audited("tuned", known, progress=stop)
    resumed = (audited("tuned", known) / "extraction.jsonl").read_bytes()
    assert sorted(resumed.splitlines()) == sorted(whole.splitlines())


def test_chance_is_uniform_when_ranks_are():
    draw = random.Random(0)
    values = sorted(chance([(draw.randint(1, 256), 256) for _ in range(6)]) for _ in range(400))
    for share in (0.1, 0.5, 0.9):
        assert values[int(400 * share)] == pytest.approx(share, abs=0.08)
    assert chance([(1, 256)]) == pytest.approx(1 / 256)
    # scipy.stats.combine_pvalues([0.25, 0.5, 0.0625]).
    assert chance([(1, 4), (1, 2), (1, 16)]) == pytest.approx(0.1376806961)
    assert chance([]) == 1.0


def test_canaries_are_unknowable_repeatable_and_apart(tmp_path):
    first = make(tmp_path / "a", 3, [2])
    assert {canary.secret for canary in first}.isdisjoint(canary.secret for canary in make(tmp_path / "b", 3, [2]))
    assert make(tmp_path / "c", 3, [2], seed=1) == make(tmp_path / "d", 3, [2], seed=1)
    assert load(tmp_path / "a") == first
    for canary in first:
        texts = [(tmp_path / "a" / FILES / name).read_text() for name in canary.files()]
        assert all(f"{canary.prefix}{canary.secret}" in text for text in texts)
        shared = set(texts[0].split()) & set(texts[1].split())
        assert len(shared) < 0.4 * len(set(texts[0].split()))
        for text in texts:
            compile(text, "canary", "exec")
        others = canary.others(100)
        assert len({*others, canary.secret}) == 101
        assert {len(other) for other in others} == {len(canary.secret)}
        assert others == canary.others(100)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda folder: make(folder, 1, [1]), EvaluationError, "is not empty"),
        (lambda folder: load(folder / "absent"), EvaluationError, "there are no canaries at"),
        (lambda folder: load(folder / "x"), EvaluationError, "is damaged"),
        (lambda folder: CorpusTexts(str(folder)), DataError, "there is no prepared data at"),
        (lambda folder: CorpusTexts("s3://bucket/x"), EvaluationError, "is remote"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path, call, error, message):
    (tmp_path / "x").write_text("{}\n")
    with pytest.raises(error, match=message):
        call(tmp_path)
