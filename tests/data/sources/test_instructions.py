"""Conversations to texts and the ranges that are learnt; what is no conversation is counted."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from codelm.config.data import DataConfig, InstructionsSource
from codelm.data.documents import Counts, Document
from codelm.data.sources.dispatch import list_files, read_documents
from codelm.data.sources.instructions import conversation
from codelm.data.store import load_plan, partition, save_plan
from codelm.errors import DataError

USER, SYSTEM, ASSISTANT = ({"role": role} for role in ("user", "system", "assistant"))


def read(tmp_path: Path, rows: list[Any], **source: Any) -> tuple[list[Document], dict[str, dict[str, int]]]:
    """Every document of one file of rows, through saved plans, and what was dropped."""
    file = tmp_path / "talk.jsonl"
    file.write_bytes(b"".join(r if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in rows))
    filters = source.pop("filters", {})
    config = DataConfig.model_validate(
        {
            "run_name": "x",
            "sources": {"talk": {"name": "instructions", "files": [str(file)], **source}},
            "filters": filters,
            "languages": ["python"],
            "tokenizer": {"path": "unused"},
            "max_seq_len": 8,
            "output_folder": "unused",
        }
    )
    counts = Counts()
    documents: list[Document] = []
    for plan in partition(list_files(config, counts)):
        save_plan(plan, tmp_path / "plan.json")
        assert load_plan(tmp_path / "plan.json") == plan
        for repository, parts in plan:
            assert repository.kind == "instructions"
            found = read_documents(repository, parts, config.filters, counts, languages=config.languages)
            documents += [document for _, document in found if document is not None]
    return documents, counts.to_dict()


def learnt(document: Document) -> list[str]:
    assert document.trained is not None
    return [document.text[first:end] for first, end in document.trained]


def test_prompt_and_response_are_taken_as_they_are(tmp_path: Path) -> None:
    (document,), dropped = read(
        tmp_path, [{"prompt": "def add(a, b):\n", "response": "    return a + b\n", "id": 1}], licence="MIT"
    )
    assert dropped == {}
    assert document.text == "def add(a, b):\n    return a + b\n"
    assert learnt(document) == ["    return a + b\n"]
    assert (document.language, document.repository, document.licence) == ("instructions", "talk", "MIT")
    assert document.path == f"{tmp_path}/talk.jsonl#0"


def test_messages_are_written_by_the_templates_and_the_answers_are_learnt(tmp_path: Path) -> None:
    turns = [
        {**SYSTEM, "content": "Be brief."},
        {**USER, "content": "2 + 2?"},
        {**ASSISTANT, "content": "4"},
        {**USER, "content": "And 3?"},
        {**ASSISTANT, "content": "5"},
    ]
    (document,), _ = read(tmp_path, [{"messages": turns}])
    assert document.text == (
        "Be brief.\n\n### Instruction:\n2 + 2?\n\n### Response:\n4\n### Instruction:\nAnd 3?\n\n### Response:\n5\n"
    )
    assert learnt(document) == ["4\n", "5\n"]
    assert document.trained is not None
    assert document.trained[-1][1] == len(document.text)  # so the end-of-text token after it is learnt


def test_what_an_answers_template_says_before_its_content_is_not_learnt(tmp_path: Path) -> None:
    (document,), _ = read(
        tmp_path,
        [{"messages": [{**USER, "content": "{content} {x}"}, {**ASSISTANT, "content": "an {answer}"}]}],
        user_template="<user>{content}</user>",
        assistant_template="<bot>{content}</bot>{}",
    )
    assert document.text == "<user>{content} {x}</user><bot>an {answer}</bot>{}"
    assert learnt(document) == ["an {answer}</bot>{}"]


def test_what_follows_the_last_answer_is_left_out(tmp_path: Path) -> None:
    turns = [{**USER, "content": "a"}, {**ASSISTANT, "content": "b"}, {**USER, "content": "never answered"}]
    (document,), _ = read(tmp_path, [{"messages": turns}])
    assert "never" not in document.text
    assert learnt(document) == ["b\n"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(st.characters(codec="utf-8"), min_size=1)),
        min_size=1,
    )
)
def test_the_ranges_hold_the_answers_whatever_they_hold(turns: list[tuple[str, str]]) -> None:
    turns = [("assistant", "first"), *((role, text + "x") for role, text in turns)]
    messages = [{"role": role, "content": text} for role, text in turns]
    text, trained = conversation({"messages": messages}, InstructionsSource(name="instructions", files=["x"]))
    answers = [content + "\n" for role, content in turns if role == "assistant"]
    assert [text[first:end] for first, end in trained] == answers
    assert trained[-1][1] == len(text)
    assert all(first < end for first, end in trained)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(trained))


def test_rows_that_are_no_conversations_are_counted_by_reason(tmp_path: Path) -> None:
    answered = [{**USER, "content": "a"}, {**ASSISTANT, "content": "b"}]
    bad: dict[str, list[Any]] = {
        "empty_answer": [
            {"prompt": "a", "response": " \n"},
            {"messages": [*answered, {**ASSISTANT, "content": ""}]},
        ],
        "no_answer": [{"messages": []}, {"messages": [{**USER, "content": "a"}]}, {"prompt": "a"}, {"id": 7}],
        "no_prompt": [{"response": "b"}],
        "not_json": [b"{\n"],
        "not_utf8": [b'{"prompt": "\xe9", "response": "b"}\n', {"prompt": "\ud83d", "response": "b"}],
        "too_large": [{"prompt": "a" * 2000, "response": "b"}],
        "unknown_role": [
            {"messages": [{"role": "tool", "content": "a"}, *answered]},
            {"messages": [{"content": "a"}, *answered]},
        ],
        "wrong_type": [
            [],
            {"prompt": 7, "response": "b"},
            {"prompt": "a", "response": ["b"]},
            {"messages": "hello"},
            {"messages": ["hello"]},
            {"messages": [{**USER, "content": None}, *answered]},
        ],
    }
    rows = [{"messages": answered}, *(row for several in bad.values() for row in several), {"messages": answered}]
    documents, dropped = read(tmp_path, rows, filters={"max_file_bytes": 1000})
    assert len(documents) == 2
    assert dropped == {"instructions": {reason: len(several) for reason, several in bad.items()}}


def test_an_empty_prompt_is_a_prompt(tmp_path: Path) -> None:
    (document,), _ = read(tmp_path, [{"prompt": "", "response": "b"}])
    assert document.trained == ((0, 1),)


def test_the_rules_on_code_do_not_hold(tmp_path: Path) -> None:
    """Neither the chosen languages nor line lengths: a conversation is no file."""
    documents, dropped = read(tmp_path, [{"prompt": "?" * 5000, "response": "1"}])
    assert len(documents) == 1
    assert dropped == {}


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    rows = [{"prompt": str(n), "response": "b"} for n in range(5)]
    documents, _ = read(tmp_path, rows, limit=2)
    assert [document.text for document in documents] == ["0b", "1b"]


def test_files_of_other_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"have neither `messages` nor `prompt` and `response`; they have question"):
        read(tmp_path, [{"question": "a"}])


@pytest.mark.parametrize("template", ["no place", "{content} twice {content}", "{ content }"])
def test_a_template_must_say_where_the_content_goes(template: str) -> None:
    with pytest.raises(ValidationError, match=r"user_template must hold `\{content\}` once"):
        InstructionsSource(name="instructions", files=["x"], user_template=template)
