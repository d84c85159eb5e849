"""What a model descends from follows it over trainings and exports, and into the licence of its card."""

import json
from pathlib import Path

import pytest

from codelm.export.export import export
from codelm.model.lineage import REPLIT, Ancestor, ancestors, lineage, lineage_of_run

REPLITS = Ancestor(REPLIT, "weights", "CC-BY-SA-4.0")


def folder_with(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / {"config": "config.json", "run": "run.json", "card": "README.md"}[name]).write_text(text)
    return folder


def run_from(start: str | None, name: str = "first", **more: object) -> dict:
    return {"config": {"run_name": name, "model": {"name": "replit_code"}, "load_path": start}, **more}


@pytest.mark.parametrize(
    "files",
    [
        {"config": {"tokenizer_name": "replit/replit-code-v1-3b"}},
        {"config": {"_name_or_path": "replit/replit-code-v1-3b"}},
        {"config": {}, "card": "---\nbase_model: replit/replit-code-v1-3b\n---\n# x\n"},
        {"config": {}, "card": "---\nbase_model:\n- other/x\n- Replit/replit-code-v1-3b\n---\n"},
    ],
    ids=str,
)
def test_replits_model_is_known_by_its_config_or_card(tmp_path, files) -> None:
    assert REPLITS in ancestors(folder_with(tmp_path / "x", **files))


@pytest.mark.parametrize("name", ["replit/replit-code-v1_5-3b", "replit/replit-code-v1-3b.gguf", "me/mpt-7b"])
def test_other_models_are_not_taken_for_replits(tmp_path, name) -> None:
    assert REPLITS not in ancestors(folder_with(tmp_path / "x", config={"_name_or_path": name}))


@pytest.mark.parametrize("start", [REPLIT, "/cache/models--replit--replit-code-v1-3b/snapshots/abc"])
def test_replits_model_is_known_by_its_name_alone(start) -> None:
    assert lineage(start) == [REPLITS]


def test_a_run_from_scratch_has_no_ancestors() -> None:
    assert lineage_of_run(run_from(None)["config"]) == []


def test_a_pretrained_model_counts_unless_its_weights_were_replaced_or_never_taken() -> None:
    model = {"name": "hf_causal_lm", "pretrained_model_name_or_path": REPLIT}
    assert lineage_of_run({"model": model}) == [REPLITS]
    assert lineage_of_run({"model": {**model, "pretrained": False}}) == []
    assert lineage_of_run({"model": model, "load_path": "me/other"}) == [Ancestor("me/other")]


def test_lineage_survives_hops_whose_folders_are_gone(tmp_path) -> None:
    rows = [ancestor.to_dict() for ancestor in lineage_of_run(run_from(REPLIT)["config"])]
    first = folder_with(tmp_path / "one" / "ba000010", config={}, run=run_from(REPLIT, lineage=rows))
    second_run = run_from(str(first), "second")
    rows = [ancestor.to_dict() for ancestor in lineage_of_run(second_run["config"])]
    second = folder_with(tmp_path / "two" / "ba000020", config={}, run={**second_run, "lineage": rows})
    (first / "run.json").unlink()
    assert ancestors(second) == [Ancestor("first (ba000010)"), REPLITS]
    third = lineage(second)
    assert [ancestor.name for ancestor in third] == ["second (ba000020)", "first (ba000010)", REPLIT]


def test_runs_that_recorded_no_lineage_are_followed_by_their_load_path(tmp_path) -> None:
    first = folder_with(tmp_path / "one" / "ba000010", config={}, run=run_from(REPLIT))
    second = folder_with(tmp_path / "two" / "ba000020", config={}, run=run_from(str(first), "second"))
    assert REPLITS in ancestors(second)


def test_checkpoints_that_name_each_other_end(tmp_path) -> None:
    folder_with(tmp_path / "a", config={}, run=run_from(str(tmp_path / "b")))
    folder_with(tmp_path / "b", config={}, run=run_from(str(tmp_path / "a")))
    assert [ancestor.name for ancestor in ancestors(tmp_path / "a")] == ["first (b)", "first (a)"]


def test_replits_vocabulary_is_known_through_prepared_data(tmp_path) -> None:
    folder_with(tmp_path / "theirs", config={"tokenizer_name": REPLIT})
    settings = {"settings": {"tokenizer": {"path": str(tmp_path / "theirs")}}}
    (tmp_path / "data" / "tokenizer").mkdir(parents=True)
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(settings))
    config = {**run_from(None)["config"], "tokenizer": {"path": str(tmp_path / "data" / "tokenizer")}}
    assert lineage_of_run(config) == [Ancestor(REPLIT, "vocabulary", "CC-BY-SA-4.0")]


def continued_from(checkpoint: Path, *rows: Ancestor) -> Path:
    file = checkpoint / "latest" / "run.json"
    run = json.loads(file.read_text())
    file.write_text(json.dumps({**run, "lineage": [row.to_dict() for row in rows]}))
    return checkpoint


def test_what_descends_from_replits_names_it_says_what_changed_and_is_shared_alike(checkpoint, tmp_path) -> None:
    export(
        continued_from(checkpoint, Ancestor("first (ba000010)"), REPLITS), tmp_path / "out", ("transformers", "gguf")
    )
    for name in ("transformers", "gguf"):
        card = (tmp_path / "out" / name / "README.md").read_text()
        for words in (
            "license: cc-by-sa-4.0\n",
            f'base_model:\n- "{REPLIT}"\n',
            f"adapted from [replit-code-v1-3b](https://huggingface.co/{REPLIT}) by Replit, Inc.",
            "https://creativecommons.org/licenses/by-sa/4.0/",
            "- trained further on other data (run `small`: 12 batches, 3,072 tokens)",
            "- trained further before that, in `first (ba000010)`",
            "shared under the same licence",
            "Replit has endorsed neither it nor its use",
        ):
            assert words in card, words
    assert 'LICENSE """CC-BY-SA-4.0"""' in (tmp_path / "out" / "gguf" / "Modelfile").read_text()


def test_what_is_made_from_an_export_still_descends_from_replits(checkpoint, tmp_path) -> None:
    export(continued_from(checkpoint, REPLITS), tmp_path / "one")
    (tmp_path / "one" / "README.md").unlink()
    export(tmp_path / "one", tmp_path / "two")
    names = [ancestor.name for ancestor in lineage(tmp_path / "two")]
    assert names[-2:] == ["small (ba000012)", REPLIT]
    assert "license: cc-by-sa-4.0\n" in (tmp_path / "two" / "README.md").read_text()


def test_a_base_that_no_record_names_can_be_named(checkpoint, tmp_path) -> None:
    export(checkpoint, tmp_path / "out", base=REPLIT)
    assert "license: cc-by-sa-4.0\n" in (tmp_path / "out" / "README.md").read_text()


def test_a_model_from_scratch_carries_no_licence_of_others(checkpoint, tmp_path) -> None:
    export(checkpoint, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license:" not in card
    assert "whoever publishes it chooses the licence" in card
    assert "| python | PSF-2.0 |" in card


def test_a_folder_is_not_taken_for_a_model_on_the_hub(make_checkpoint, tmp_path) -> None:
    export(make_checkpoint(), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model" not in card
    assert f"Made from the folder {tmp_path.name}/model." in card
