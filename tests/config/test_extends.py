"""`extends:` lays a YAML over others; a mixture, and a section whose name changes, is replaced whole."""

import pytest

from codelm.config import load_config


def test_a_child_changes_what_it_names_and_keeps_the_rest(write):
    write("base.yaml", "train")
    config = load_config("train", write("x.yaml", "extends: base.yaml\nmodel:\n  n_layers: 2\nseed: 3\n"))
    assert (config.model.n_layers, config.model.d_model, config.seed, config.run_name) == (2, 128, 3, "small")


def test_parents_are_found_beside_the_file_that_names_them(write, tmp_path):
    write("shared/base.yaml", "train")
    write("shared/tuned.yaml", "extends: base.yaml\nseed: 1\nmax_duration: 1ba\n")
    child = write("runs/mine.yaml", "extends: ../shared/tuned.yaml\nseed: 2\n")
    config = load_config("train", child)
    assert (config.seed, config.max_duration) == (2, "1ba")
    assert load_config("train", str(tmp_path / child)) == config


def test_of_several_parents_the_later_wins(write):
    write("base.yaml", "train")
    write("a.yaml", "seed: 1\neval_first: true\n")
    write("b.yaml", "seed: 2\n")
    config = load_config("train", write("x.yaml", "extends: [base.yaml, a.yaml, b.yaml]\n"))
    assert (config.seed, config.eval_first) == (2, True)


def test_a_parent_may_be_named_by_an_environment_variable(write, monkeypatch):
    write("base.yaml", "train")
    monkeypatch.setenv("CODELM_BASE", "base")
    assert load_config("train", write("x.yaml", "extends: ${oc.env:CODELM_BASE}.yaml\n")).run_name == "small"


STREAMS = "{python: {repeat: 2}, javascript: {upsample: 3.0, limit: 7}}"


@pytest.mark.parametrize(
    ("childs", "left"),
    [("{}", {}), ("null", {}), ("{javascript: {limit: 5}}", {"javascript": {"limit": 5}})],
    ids=["empty", "null", "others"],
)
def test_streams_replace_their_parents(childs, left, write):
    write("base.yaml", "train")
    write("parent.yaml", f"extends: base.yaml\ntrain_data:\n  streams: {STREAMS}\n")
    kept = load_config("train", write("y.yaml", "extends: parent.yaml\nseed: 3\n")).train_data.streams
    assert {name: section.model_dump(exclude_unset=True) for name, section in kept.items()} == {
        "python": {"repeat": 2},
        "javascript": {"upsample": 3.0, "limit": 7},
    }
    config = load_config("train", write("x.yaml", f"extends: parent.yaml\ntrain_data:\n  streams: {childs}\n"))
    streams = config.train_data.streams
    assert {name: section.model_dump(exclude_unset=True) for name, section in streams.items()} == left


def test_a_mixture_replaces_its_parents(write):
    write("base.yaml", "train")
    config = load_config("train", write("x.yaml", "extends: base.yaml\ntrain_data:\n  mixture: {rust: 1}\n"))
    assert config.train_data.mixture == {"rust": 1.0}
    assert config.train_data.path == "data"


def test_a_section_of_another_name_replaces_its_parents(write):
    write("base.yaml", "train")
    config = load_config("train", write("x.yaml", "extends: base.yaml\noptimizer: {name: adamw, lr: 1e-3}\n"))
    assert config.optimizer.model_dump() == {
        "name": "adamw",
        "lr": 1e-3,
        "betas": [0.9, 0.95],
        "eps": 1e-8,
        "weight_decay": 0.0,
        "param_groups": [],
        "disable_grad": [],
    }
    config = load_config("train", write("y.yaml", "extends: base.yaml\nscheduler: {name: constant_with_warmup}\n"))
    assert config.scheduler.t_warmup == "0ba"


def test_a_section_of_the_same_name_is_merged(write):
    write("base.yaml", "train")
    config = load_config("train", write("x.yaml", "extends: base.yaml\noptimizer: {name: lionw, weight_decay: 0.1}\n"))
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-4, 0.1)


def test_what_a_replaced_section_lacks_is_explained(write, problems):
    write("base.yaml", "train")
    path = write("x.yaml", "extends: base.yaml\noptimizer:\n  name: adamw\n")
    assert problems("train", path) == [
        "x.yaml:2:1: optimizer.lr: is missing; nothing carries over from the section for `lionw` (base.yaml:16:3)"
    ]


def test_a_problem_is_placed_in_the_file_that_caused_it(write, problems):
    write("a/base.yaml", "train")
    write("a/mid.yaml", "extends: base.yaml\nseed: -1\ndevice: tpu\n")
    found = problems("train", write("x.yaml", "extends: a/mid.yaml\nmodel:\n  n_layers: 0\n"), "device=npu")
    assert found == [
        "x.yaml:3:3: model.n_layers: should be more than 0 (got 0)",
        "a/mid.yaml:2:1: seed: should be at least 0 (got -1)",
        "command line `device=npu`: device: `npu` is none of auto, cpu, gpu; did you mean `cpu`?",
    ]


def test_circles_and_absent_parents_are_reported_where_they_are_named(write, problems):
    write("a.yaml", "extends: b.yaml\n")
    write("b.yaml", "seed: 3\nextends: a.yaml\n")
    assert problems("train", "a.yaml") == [
        "b.yaml:2:1: extends: `a.yaml` extends this file in turn; a circle has no beginning"
    ]
    assert problems("train", write("c.yaml", "extends: c.yaml\n")) == [
        "c.yaml:1:1: extends: `c.yaml` extends this file in turn; a circle has no beginning"
    ]
    assert problems("train", write("d.yaml", "extends:\n  - b.yml\n")) == [
        "d.yaml:2:5: extends: b.yml: no such file; did you mean `b.yaml`?"
    ]
    assert problems("train", write("e.yaml", "extends: 3\n")) == [
        "e.yaml:1:1: extends: must be the path of a YAML file, or a list of such paths"
    ]


def test_parents_that_multiply_are_stopped(write, problems):
    write("p0.yaml", "seed: 1\n")
    for level in range(1, 20):
        write(f"p{level}.yaml", f"extends: [p{level - 1}.yaml, p{level - 1}.yaml]\n")
    (found,) = problems("train", "p19.yaml")
    assert "more than 50 files extend one another" in found
