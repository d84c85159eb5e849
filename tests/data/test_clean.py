"""Cleaning one document: which rule comes first, what is counted, and that loss ranges follow their text."""

from dataclasses import replace
from typing import Any

import pytest

from codelm.config.data import DataConfig
from codelm.data.clean import Cleaner, Findings, rank_of
from codelm.data.contamination.problems import load_problems
from codelm.data.documents import Document

KEY = "AKIAQ3EGRTMZVKDO4V7B"
PROBLEM = load_problems("humaneval")[2]


def cleaner(**changes: Any) -> Cleaner:
    settings = {
        "run_name": "x",
        "sources": {"code": {"path": "unused"}},
        "tokenizer": {"path": "unused"},
        "max_seq_len": 8,
        "output_folder": "unused",
    }
    return Cleaner(DataConfig.model_validate({**settings, **changes}))


def document(text: str, **changes: Any) -> Document:
    plain = Document(text, "a.py", "mine", None, "python", None, "0" * 40, b"0" * 16)
    return replace(plain, **changes)


def test_what_no_rule_touches_comes_back_as_it_is() -> None:
    findings = Findings()
    assert cleaner().clean(document("print('plain')\n"), findings) == document("print('plain')\n")
    assert findings.to_dict() == Findings().to_dict()


def test_a_licence_in_the_text_goes_before_the_one_of_the_source() -> None:
    text = "# SPDX-License-Identifier: Apache-2.0\n"
    cleaned = cleaner().clean(document(text, licence="MIT"), Findings())
    assert cleaned is not None
    assert cleaned.licence == "Apache-2.0"
    undetected = cleaner(licences={"detect": False}).clean(document(text, licence="MIT"), Findings())
    assert undetected is not None
    assert undetected.licence == "MIT"


def test_the_first_rule_that_drops_a_file_counts_it_and_the_others_do_not_see_it() -> None:
    text = f"# SPDX-License-Identifier: GPL-3.0-only\nKEY = '{KEY}'\n{PROBLEM.statement}{PROBLEM.solution}"
    findings = Findings()
    assert cleaner(licences={"keep": "permissive"}).clean(document(text), findings) is None
    assert findings.dropped.to_dict() == {"python": {"licence": 1}}
    assert findings.secrets.to_dict() == findings.contamination.to_dict() == {}
    findings = Findings()
    assert cleaner(secrets={"policy": "drop-file"}).clean(document(text), findings) is None
    assert findings.dropped.to_dict() == {"python": {"evaluation_problems": 1}}
    assert findings.contamination.to_dict()["humaneval"]["files"] == 1


@pytest.mark.parametrize(
    ("policy", "kept", "secret_stays", "counted"),
    [("redact", True, False, 1), ("drop-file", False, False, 1), ("report", True, True, 1), ("off", True, True, 0)],
)
def test_each_policy_on_secrets(policy: str, kept: bool, secret_stays: bool, counted: int) -> None:
    findings = Findings()
    cleaned = cleaner(secrets={"policy": policy}).clean(document(f"KEY = '{KEY}'\n"), findings)
    assert (cleaned is not None) == kept
    assert (cleaned is not None and KEY in cleaned.text) == secret_stays
    assert findings.secrets.to_dict().get("python", {}).get("aws", 0) == counted
    assert findings.dropped.to_dict() == ({} if kept else {"python": {"secrets": 1}})


def test_loss_ranges_follow_their_text_when_a_secret_before_or_in_them_is_redacted() -> None:
    prompt, answer, more, last = f"Use {KEY} here:\n", f"key = '{KEY}'\n", "And then?\n", "print(key)\n"
    text = prompt + answer + more + last
    ranges = (
        (len(prompt), len(prompt + answer)),
        (len(prompt + answer + more), len(text)),
    )
    conversation = document(text, language="instructions", trained=ranges)
    cleaned = cleaner().clean(conversation, Findings())
    assert cleaned is not None
    assert cleaned.trained is not None
    assert KEY not in cleaned.text
    first, second = (cleaned.text[begin:end] for begin, end in cleaned.trained)
    assert first.startswith("key = '")
    assert first.endswith("'\n")
    assert second == last
    assert cleaned.text.endswith(more + last)


def test_what_parts_found_adds_up() -> None:
    parts = [Findings(), Findings()]
    for findings in parts:
        cleaner().clean(document(f"KEY = '{KEY}'\n"), findings)
        cleaner().clean(document(PROBLEM.statement + PROBLEM.solution), findings)
    whole = Findings()
    for findings in parts:
        whole.merge(findings.to_dict())
    assert whole.secrets.to_dict() == {"python": {"aws": 2}}
    assert whole.dropped.to_dict() == {"python": {"evaluation_problems": 2}}


def test_permissive_licences_rank_before_others_and_those_before_unknown_ones() -> None:
    assert [rank_of(licence) for licence in ("MIT", "MIT OR GPL-3.0-only", "GPL-3.0-only", None)] == [0, 0, 1, 2]
