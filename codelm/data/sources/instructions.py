"""Conversations to fine-tune on: JSON Lines to texts, and the ranges of them that the loss is computed on.

A row has `prompt` and `response`, taken as they are, or `messages` of the roles system, user and assistant, written by
the source's templates. What follows the last answer is left out, so that the end-of-text token after it is learnt too.
"""

from collections.abc import Iterator
from typing import Any

from codelm.config.cleaning import FiltersSection
from codelm.config.data import InstructionsSource
from codelm.data.documents import Counts, Document, Drop, FileEntry, Repository
from codelm.data.sources.contents import Provenance, identified
from codelm.data.sources.jsonl import ENDINGS, Row, first_keys, list_parts, parse_row, read_lines
from codelm.data.sources.records import max_line
from codelm.data.sources.remote_files import find_files
from codelm.errors import DataError
from codelm.languages import INSTRUCTIONS

Ranges = tuple[tuple[int, int], ...]


class BadConversation(Exception):
    """A row that is no conversation to learn from; its text is the reason."""


def list_instructions(key: str, source: InstructionsSource, counts: Counts) -> Iterator[tuple[Repository, FileEntry]]:
    """The parts of a source's files, in the order of `files` and of the names that a pattern or folder stands for.

    Raises:
        DataError: when a file is absent or cannot be read, or its rows hold no conversations.
        EnvironmentFailure: when a package that opens such URLs is not installed.
    """
    repository = Repository(source.repository or key, "", None, source.licence, source)
    left, seen = source.limit, set()
    for pattern in source.files:
        for file in find_files(f"sources.{key}.files", pattern, ENDINGS, counts):
            if file.url in seen or left == 0:
                continue
            seen.add(file.url)
            keys = first_keys(file)
            if keys and "messages" not in keys and not {"prompt", "response"} <= keys:
                raise DataError(
                    f"sources.{key}.files: the first rows of {file.url} have neither `messages` nor `prompt` and"
                    f" `response`; they have {', '.join(sorted(keys)[:20])}"
                )
            parts, rows = list_parts(file, left)
            left = left - rows if left is not None else None
            yield from ((repository, part) for part in parts)


def read_instructions(
    repository: Repository, files: list[FileEntry], filters: FiltersSection
) -> Iterator[tuple[FileEntry, Document | Drop]]:
    """Each row of the parts with its document, or the reason why it makes none; of the filters the size alone holds.

    Raises:
        DataError: when a file cannot be read.
    """
    source = repository.rows
    assert isinstance(source, InstructionsSource)
    for part in files:
        for offset, line in read_lines(part, max_line(filters)):
            where = Provenance(f"{part.path}#{offset}", repository.name, None, INSTRUCTIONS, repository.licence)
            yield part, _document(parse_row(line), source, where, filters)


def _document(row: Row, source: InstructionsSource, where: Provenance, filters: FiltersSection) -> Document | Drop:
    if isinstance(row, str):
        return Drop(INSTRUCTIONS, row)
    try:
        text, trained = conversation(row, source)
        contents = text.encode()
    except BadConversation as bad:
        return Drop(INSTRUCTIONS, str(bad))
    except UnicodeEncodeError:
        return Drop(INSTRUCTIONS, "not_utf8")
    if len(contents) > filters.max_file_bytes:
        return Drop(INSTRUCTIONS, "too_large")
    return identified(text, contents, INSTRUCTIONS, where, trained)


def conversation(row: dict[str, Any], source: InstructionsSource) -> tuple[str, Ranges]:
    """The text of a row, and the character ranges (first, end) of its answers; the last one ends the text.

    Raises:
        BadConversation: wrong_type, unknown_role, no_answer or empty_answer.
    """
    if row.get("messages") is not None:
        return _of_turns(row["messages"], source)
    prompt, response = row.get("prompt"), row.get("response")
    if response is None or prompt is None:
        raise BadConversation("no_answer" if response is None else "no_prompt")
    if not isinstance(prompt, str) or not isinstance(response, str):
        raise BadConversation("wrong_type")
    if not response.strip():
        raise BadConversation("empty_answer")
    return prompt + response, ((len(prompt), len(prompt) + len(response)),)


def _of_turns(turns: object, source: InstructionsSource) -> tuple[str, Ranges]:
    templates = {
        "system": source.system_template,
        "user": source.user_template,
        "assistant": source.assistant_template,
    }
    text, trained = "", []
    if not isinstance(turns, list):
        raise BadConversation("wrong_type")
    for turn in turns:
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise BadConversation("wrong_type")
        role = turn.get("role")
        if not isinstance(role, str) or role not in templates:
            raise BadConversation("unknown_role")
        if role == "assistant" and not turn["content"].strip():
            raise BadConversation("empty_answer")
        before, after = templates[role].split("{content}")
        text += before
        start = len(text)
        text += turn["content"] + after
        if role == "assistant":
            trained.append((start, len(text)))
    if not trained:
        raise BadConversation("no_answer")
    return text[: trained[-1][1]], tuple(trained)
