"""The report of a prepared corpus: nothing in it acts, its bars add up, the same corpus gives the same bytes."""

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from codelm.config.data import DataConfig
from codelm.data.manifest import Manifest, load_manifest
from codelm.data.prepare import prepare
from codelm.data.report import page as report
from codelm.data.report.page import REPORT_FILE, tokens_until_repeated, write_report
from codelm.html.charts import bars, columns, stacked_bars
from codelm.tokenizer import load_tokenizer

HOSTILE = "<script>alert('x')</script>\"&\x1b[31m.py"
_ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "table", "tr", "th", "td", "pre", "span",
    "i", "svg", "text", "rect",
}  # fmt: skip


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
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, code_folder: Path) -> tuple[Path, Manifest]:
    """A corpus whose file, source and repository names, and a text, are markup."""
    folder = tmp_path_factory.mktemp("report")
    inside = folder / "code" / "<b>bold"
    inside.mkdir(parents=True)
    text = (code_folder / "json" / "decoder.py").read_text()
    (inside / HOSTILE.replace("/", "_")).write_text(f"# </pre><script>alert('text')</script>\n{text}")
    (inside / "empty.py").write_text("")
    settings = {
        "run_name": "a.name",
        "sources": {"<i>source": {"path": str(folder / "code"), "repository_per_folder": True, "licence": "MIT"}},
        "split": {"validation": 0.0},
        "tokenizer": {"train": {"vocab_size": 400}},
        "max_seq_len": 64,
        "output_folder": str(folder / "output"),
        "num_workers": 1,
    }
    prepare(DataConfig.model_validate(settings))
    return folder / "output", load_manifest(folder / "output")


def test_hostile_names_and_texts_are_shown_and_never_act(corpus: tuple[Path, Manifest]) -> None:
    text = (corpus[0] / REPORT_FILE).read_text()
    page = Page(text)
    assert page.tags <= _ALLOWED
    assert page.open == []
    assert not {name for name in page.attributes if name.startswith("on") or name in ("src", "href")}
    assert "default-src 'none'" in text
    for shown in ("<b>bold:<script>alert('x')<_script>\"&", "<i>source"):
        assert shown in page.text


def test_text_from_the_corpus_is_escaped_in_its_sample(
    corpus: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, manifest = corpus
    tokenizer = load_tokenizer(folder / "tokenizer")
    monkeypatch.setattr(type(tokenizer), "decode", lambda *_, **__: "</pre><script>alert('text')</script>")
    before = (folder / REPORT_FILE).read_bytes()
    write_report(folder, manifest, tokenizer)
    page = Page((folder / REPORT_FILE).read_text())
    (folder / REPORT_FILE).write_bytes(before)
    assert page.tags <= _ALLOWED
    assert "</pre><script>alert('text')" in page.text


def test_the_same_corpus_gives_the_same_bytes(corpus: tuple[Path, Manifest]) -> None:
    folder, manifest = corpus
    before = (folder / REPORT_FILE).read_bytes()
    write_report(folder, manifest, load_tokenizer(folder / "tokenizer"))
    assert (folder / REPORT_FILE).read_bytes() == before


def test_it_says_what_was_kept_and_dropped(corpus: tuple[Path, Manifest]) -> None:
    text = Page((corpus[0] / REPORT_FILE).read_text()).text
    python = corpus[1].splits["train"]["python"]
    assert f"1 files, {python.bytes / 1e6:,.1f} MB, {python.tokens:,} tokens to train on; 0 files held out" in text
    assert "1 files dropped" in text


def test_each_source_has_its_licences_drops_and_secrets(corpus: tuple[Path, Manifest]) -> None:
    """So has one of which nothing was kept."""
    found = {"<i>source": {"dropped": {"empty": 1}, "secrets": {}}, "gone": {"dropped": {}, "secrets": {"aws": 2_000}}}
    drawn = report._sources(dataclasses.replace(corpus[1], by_source=found))
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in drawn.split("<tr>")[2:]]
    assert corpus[1].by_source == {"<i>source": found["<i>source"]}
    assert [[row[0], row[1], *row[4:]] for row in rows] == [
        ["&lt;i&gt;source", "1", "MIT 1", "empty 1", ""],
        ["gone", "0", "", "", "aws 2,000"],
    ]


def test_every_colour_of_the_legend_is_drawn_and_every_drop_is_in_a_bar() -> None:
    """What is of no language has no bar, and so no colour; it is in the table."""
    dropped = {"other": {"not_a_language": 900, "symlink": 3}, "c": {"empty": 2, "long_line": 6}, "go": {"empty": 4}}
    drawn = report._dropped(dropped)
    key = drawn[: drawn.index("<svg")]
    assert re.findall(r"</i>(\w+)", key) == ["empty", "long_line"]
    hints = re.findall(r"<title>[^<]*?: (\w+) ([\d,]+)</title>", drawn)
    assert sum(int(number) for _, number in hints) == 12
    assert "And 903 files of no known language." in drawn
    assert "<td>not_a_language</td><td>900</td>" in drawn


def widths(chart: str) -> list[float]:
    return [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', chart)]


def test_stacked_bars_add_up_on_one_scale() -> None:
    chart = stacked_bars({"a": [3, 1], "b": [0, 2]}, {"a": "4", "b": "2"}, ["x", "y"])
    assert widths(chart)[0] + widths(chart)[1] == pytest.approx(2 * widths(chart)[2])
    assert widths(chart)[0] == pytest.approx(3 * widths(chart)[1])
    assert len(widths(chart)) == 3


@pytest.mark.parametrize("draw", [lambda: bars({}, {}), lambda: bars({"a": 0}, {"a": "0"}), lambda: columns([], [])])
def test_nothing_to_draw_is_no_error(draw: Callable[[], str]) -> None:
    assert widths(draw()) == []


def test_columns_are_as_high_as_their_counts() -> None:
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" fill', columns([1, 2, 4], ["a", "b", "c"]))]
    assert heights == [30.0, 60.0, 120.0]


def test_what_runs_out_first_is_the_language_with_the_least_for_its_share(corpus: tuple[Path, Manifest]) -> None:
    """With one language the corpus is read four times before it is read a fifth."""
    manifest = corpus[1]
    tokens = manifest.splits["train"]["python"].tokens
    found = tokens_until_repeated(manifest, "corpus")
    assert found is not None
    assert found[1] == "python"
    assert found[0] == pytest.approx(4 * tokens, rel=0.02)
