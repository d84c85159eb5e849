"""Files as people and editors leave them: read when they can be, else one sentence with the place."""

import os
import threading

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from codelm.config import load_config
from codelm.config.source import Loader
from codelm.errors import ConfigError

SMALL_EVAL = "run_name: x\nmodel: {path: y}\ntasks: {humaneval: {}}\noutput_folder: z\n"

FILES = {
    "tab": ("run_name: x\nmodel:\n\tpath: y\n", "x.yaml:3:1: a tab; YAML is indented with spaces only"),
    "no space": (
        "run_name:x\nseed: 3\n",
        "x.yaml:2:5: not valid YAML: a second `: ` in this line, or an indentation that differs from the line above",
    ),
    "no colon": (
        "run_name: x\nseed\nmodel: 3\n",
        "x.yaml:3:1: not valid YAML: a key needs `: ` (a colon and a space) after it, on the same line",
    ),
    "two colons": (
        "run_name: a: b\n",
        "x.yaml:1:12: not valid YAML: a second `: ` in this line, or an indentation that differs from the line above",
    ),
    "indentation": (
        "model:\n    path: x\n  device: cpu\n",
        "x.yaml:3:3: not valid YAML: the indentation differs from the lines above that belong to the same section",
    ),
    "glob": (
        "run_name: x\nseed: *.py\n",
        'x.yaml:2:8: a text that starts with `*` or `&` must be in quotes, such as "*.py"',
    ),
    "glob in a list": (
        "run_name: [*abc]\n",
        'x.yaml:1:12: a text that starts with `*` or `&` must be in quotes, such as "*.py"',
    ),
    "at sign": ("run_name: @x\n", "x.yaml:1:11: a text that starts with `@` must be in quotes"),
    "open bracket": (
        "run_name: [1, 2\nseed: 3\n",
        "x.yaml:2:5: not valid YAML: a bracket `[` or `{` is not closed, or a comma is missing",
    ),
    "open quote": ("run_name: 'x\n", "x.yaml:2:1: not valid YAML: a quotation mark is not closed"),
    "two documents": (
        "run_name: x\n---\nseed: 3\n",
        "x.yaml:2:1: a second document starts here (`---`); a run is one document",
    ),
    "control character": (
        "run_name: x\nseed: \x07\n",
        "x.yaml:2:7: the character U+0007 is not allowed in YAML; delete it",
    ),
    "empty": ("", "x.yaml: the file is empty (or all comments); see yamls/quickstart/ for whole examples"),
    "comments": ("# x\n", "x.yaml: the file is empty (or all comments); see yamls/quickstart/ for whole examples"),
    "list": (
        "- a\n",
        "x.yaml:1:1: the file holds a list, not keys; write `key: value` lines (with a space after the colon)",
    ),
    "text": (
        "just words\n",
        "x.yaml:1:1: the file holds a text or number, not keys; write `key: value` lines (with a space after the"
        " colon)",
    ),
    "not UTF-8": (b"run_name: x\nseed: \xe9\n", "x.yaml:2:7: a byte here is not UTF-8; save the file as UTF-8"),
    "UTF-16": ("run_name: x\n".encode("utf-16"), "x.yaml: is encoded as UTF-16; save it as UTF-8"),
    "large": (b"# " * 600_000, "x.yaml: is larger than 1000 kB, so it is hardly a run's YAML"),
    "deep": (b"a: " + b"[" * 5000, "x.yaml:1:1: brackets or sections are nested far too deeply"),
    "endless alias": ("a: &a [*a]\n", "x.yaml:1:4: an alias stands inside what it names, without end"),
}


@pytest.mark.parametrize(("text", "message"), FILES.values(), ids=FILES.keys())
def test_what_is_not_one_yaml_mapping_gets_a_sentence(text, message, write, problems):
    assert problems("eval", write("x.yaml", text)) == [message]


def test_a_bomb_of_aliases_is_stopped(write, problems):
    levels = "".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12))
    (found,) = problems("eval", write("x.yaml", "a0: &a0 lol\n" + levels))
    assert found.endswith("the YAML has more than 20000 values, aliases counted as often as they are used")


def test_windows_lines_a_byte_order_mark_and_a_missing_last_newline_are_fine(write):
    text = "\r\n".join(["run_name: x", "model: {path: é}", "tasks: {humaneval: {}}", "output_folder: y"])
    config = load_config("eval", write("x.yaml", b"\xef\xbb\xbf" + text.encode()))
    assert (config.run_name, config.model.path) == ("x", "é")


def test_positions_are_right_behind_a_byte_order_mark_and_wide_letters(write, problems):
    text = (
        "﻿sed: 1\r\nrun_name: x\r\nmodel: {path: 'éé漢', devise: cpu}\r\ntasks: {humaneval: {}}\r\noutput_folder: y\r\n"
    )
    assert problems("eval", write("x.yaml", text.encode())) == [
        "x.yaml:1:1: sed: unknown key; did you mean `seed`?",
        "x.yaml:3:22: model.devise: unknown key; did you mean `device`?",
    ]


def test_a_key_given_twice_names_both_lines(write, problems):
    path = write("x.yaml", SMALL_EVAL + "seed: 1\nmodel:\n  path: z\nseed: 2\n")
    assert problems("eval", path) == [
        "x.yaml:6:1: model: the key is here a second time (first in line 2); delete one of the two",
        "x.yaml:8:1: seed: the key is here a second time (first in line 5); delete one of the two",
    ]


def test_keys_that_yaml_does_not_read_as_text(write, problems):
    assert problems("eval", write("x.yaml", SMALL_EVAL + "1: x\non: y\n[a]: 3\n")) == [
        "x.yaml:5:1: 1: YAML reads the key `1` as a number, boolean or null; write it in quotes",
        "x.yaml:6:1: on: YAML reads the key `on` as a number, boolean or null; write it in quotes",
        "x.yaml:7:1: a key must be a text; a value that starts with `{` or `[` may need quotes",
    ]


@pytest.mark.parametrize(("text", "read"), [("010", 8), ("-010", -8), ("1:30", 90), ("0_7", 7)])
def test_numbers_to_base_8_and_60_are_no_numbers(text: str, read: int, write, problems) -> None:
    (found,) = problems("eval", write("x.yaml", SMALL_EVAL + f"seed: {text}\n"))
    assert found.startswith(f"x.yaml:5:7: seed: YAML reads `{text}` as {read}; write the number that is meant")


def test_tags_that_build_objects_are_refused(write, problems):
    found = problems("eval", write("x.yaml", SMALL_EVAL + "seed: !!python/name:os.system ''\n"))
    assert found[0] == (
        "x.yaml:5:7: seed: the YAML tag `tag:yaml.org,2002:python/name:os.system` is not supported; write a plain value"
    )


def test_anchors_and_merge_keys_work_and_keep_their_places(write, problems):
    text = SMALL_EVAL + "sandbox:\n  <<: {num_workers: 0}\n  wall_seconds: 3\n"
    assert problems("eval", write("x.yaml", text)) == ["x.yaml:6:8: sandbox.num_workers: should be more than 0 (got 0)"]


def test_absent_files_name_their_neighbours(write, problems):
    write("runs/train.yaml", "seed: 1\n")
    assert problems("train", "runs/trian.yaml") == ["runs/trian.yaml: no such file; did you mean `runs/train.yaml`?"]
    assert problems("train", "runs/train.yml") == ["runs/train.yml: no such file; did you mean `runs/train.yaml`?"]
    assert problems("train", "runs/quite_else.yaml") == [
        "runs/quite_else.yaml: no such file; that folder has train.yaml"
    ]
    assert problems("train", "rums/x.yaml") == ["rums/x.yaml: no such file; the folder rums does not exist either"]
    assert problems("train", "runs") == ["runs: is a folder; name one of the files in it: train.yaml"]
    assert problems("train", "runs/train.yaml/x.yaml") == [
        "runs/train.yaml/x.yaml: no such file: a part of its path is a file, not a folder"
    ]


def test_a_pipe_can_be_read(write, tmp_path):
    write("y.yaml", "eval")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text(SMALL_EVAL))
    writer.start()
    assert load_config("eval", str(tmp_path / "pipe")).run_name == "x"
    writer.join()


# fmt: off
SCALARS = [
    "1", "-1", "+1", "0", "1_000", "0x1F", "0b11", "010", "1e-4", "1E5", "1e+5", "-2.5e-3", "1.", "1.5", ".5",
    "1_0.5", ".inf", "-.inf", "true", "True", "yes", "off", "null", "~", "Null", "none", "2024-01-01",
    "12:30", "1e", "1e-", "e5", "1.2.3", "100ba", "5e9tok", "0.1.0", "1,5", "a-b", "'x'", "\"1\"", "=a",
]
# fmt: on


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_mean_what_omegaconf_reads(text):
    assert yaml.load(f"value: {text}", Loader) == OmegaConf.to_container(OmegaConf.create(f"value: {text}"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.binary(max_size=60),
        st.text("abc:{}[]&*!|>'\"%@`#-?,\n \t$.~0123é\x85<", max_size=60).map(str.encode),
        st.lists(
            st.sampled_from(
                ["seed", "model", ": ", "{", "}", "[", "]", "\n", "  ", "path", "&a", "*a", "<<", "${", "}", "-", " "]
            )
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_no_text_gives_a_traceback(text, write):
    with pytest.raises(ConfigError):
        load_config("eval", write("x.yaml", text))
