"""The report of a real run: whole, escaped, closed to the network; and what there is of an unfinished one."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from codelm.config.train import TrainConfig
from codelm.errors import CheckpointError
from codelm.train.report.page import REPORT_FILE, leave_report, write_report
from codelm.train.run import train

_VOID = {"meta", "br"}


class Page(HTMLParser):
    """Tags, attributes and visible text of a page, as a parser that nobody here wrote reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def save_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that leaves everything that a report shows."""
    folder = tmp_path_factory.mktemp("report") / "run"
    sections = {
        "language_monitor": {"interval": "2ba"},
        "optimizer_monitor": {"interval": "2ba"},
        "memory_monitor": {"interval": "2ba"},
        "sample_completions": {"interval": "8ba", "prompts": ["<script>alert(1)</script>"], "max_new_tokens": 4},
    }
    settings = {
        "run_name": "a.name",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "eval_data": {"heldout": {"path": str(corpus), "max_samples_per_language": 2}},
        "optimizer": {"name": "lionw", "lr": 1e-3},
        "max_duration": "8ba",
        "eval_interval": "4ba",
        "global_train_batch_size": 4,
        "device_train_microbatch_size": 4,
        "device": "cpu",
        "callbacks": sections,
        "save_folder": str(folder),
        "save_interval": "8ba",
    }
    train(TrainConfig.model_validate(settings))
    return folder


def test_a_run_leaves_a_report_of_all_that_it_did(save_folder: Path) -> None:
    page = Page((save_folder / REPORT_FILE).read_text())
    for title in ("Curves", "Languages", "Samples", "Data", "Environment", "Configuration"):
        assert title in page.text
    for curve in (
        "Training loss",
        "Validation, bits per byte",
        "Training loss by language",
        "Norms",
        "Peak memory, GB",
    ):
        assert curve in page.text, curve
    rows = [json.loads(line) for line in (save_folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss/train/total"] for row in rows if "loss/train/total" in row]
    assert f"training loss {losses[0]:.3f} → {losses[-1]:.3f}" in page.text
    assert "75.0%" in page.text
    assert "d_model: 32" in page.text


def test_nothing_in_it_acts_or_is_fetched(save_folder: Path) -> None:
    text = (save_folder / REPORT_FILE).read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert not {name for name in page.attributes if name.startswith("on") or name in ("src", "href")}
    assert "<script>alert(1)</script>" in page.text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert page.open == []


def test_an_unfinished_run_has_one_of_what_there_is(tmp_path: Path) -> None:
    row = {"batch": 1, "loss/train/total": 3.0, "bad": "nan"}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + '\n{"batch": 2, "loss/tr')
    text = write_report(tmp_path).read_text()
    assert "1 batches; training loss 3.000 → 3.000" in Page(text).text
    assert "No checkpoint says with which configuration" in text


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no metrics.jsonl, which a training run writes"):
        write_report(tmp_path)


def test_at_the_end_of_a_run_its_failure_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leave_report(tmp_path)
    assert "report.html was not written: CheckpointError" in caplog.text


def test_a_row_that_came_late_stands_in_its_place(tmp_path: Path) -> None:
    rows: list[dict] = [{"batch": 5, "eval/x": 2.0}, {"batch": 3, "eval/x": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "2.0000" in write_report(tmp_path).read_text()


def test_code_evaluation_is_a_curve_of_each_score_and_a_table_of_the_newest_values(tmp_path: Path) -> None:
    score = "eval/humaneval/pass@1"
    rows: list[dict] = [{"batch": 10, score: 0.5, "eval/humaneval/problems": 4}, {"batch": 3000, score: 0.25}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, _, evaluation = write_report(tmp_path).read_text().partition("<h2>Evaluation</h2>")
    assert "<td>humaneval/pass@1</td><td>3,000</td><td>0.2500</td>" in evaluation
    assert "<td>humaneval/problems</td><td>10</td><td>4.0000</td>" in evaluation
    assert evaluation.count("<polyline") == 1
