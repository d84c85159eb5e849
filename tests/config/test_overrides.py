"""`key=value` arguments are laid over the YAML, with the same rules as a child."""

import pytest

from codelm.config import load_config


@pytest.fixture
def load(write):
    path = write("x.yaml", "train")
    return lambda *arguments: load_config("train", path, list(arguments))


def test_values_are_read_as_yaml(load):
    config = load("optimizer.lr=3e-5", "eval_first=true", "load_path=null", "optimizer.betas=[0.8,0.9]", "run_name='7'")
    assert config.optimizer.lr == 3e-5
    assert config.eval_first is True
    assert config.load_path is None
    assert config.optimizer.betas == [0.8, 0.9]
    assert config.run_name == "7"


def test_sections_that_the_yaml_lacks_are_made(load):
    assert load("callbacks.code_eval.interval=5ba").callbacks.code_eval.interval == "5ba"
    assert load("eval_data.mine.path=x").eval_data["mine"].path == "x"
    assert load("fsdp_config={}").fsdp_config.version == 2


def test_the_last_of_two_wins(load):
    assert load("seed=1", "seed=2").seed == 2


def test_one_key_of_one_stream_is_edited_and_a_whole_section_replaces(load):
    made = load("train_data.streams.python.repeat=2").train_data.streams
    assert [(name, stream.repeat) for name, stream in made.items()] == [("python", 2)]
    given = "train_data.streams={python: {repeat: 2, limit: 5}, c: {limit: 3}}"
    edited = load(given, "train_data.streams.python.limit=9", "train_data.streams.rust.upsample=2").train_data.streams
    assert {name: (stream.repeat, stream.limit, stream.upsample) for name, stream in edited.items()} == {
        "python": (2, 9, 1.0),
        "c": (None, 3, 1.0),
        "rust": (None, None, 2.0),
    }
    assert load(given, "train_data.streams={}").train_data.streams == {}


def test_a_whole_mixture_replaces_and_one_entry_is_edited(load):
    assert load("train_data.mixture={python: 1.0}").train_data.mixture == {"python": 1.0}
    assert load("train_data.mixture=natural").train_data.mixture == "natural"
    assert load("train_data={mixture: {c: 1}}").train_data.mixture == {"c": 1.0}
    assert load("train_data.mixture.python=0.25").train_data.mixture == {"python": 0.25, "javascript": 0.5}
    assert load("train_data.mixture={python: 1.0}", "train_data.mixture.c=2").train_data.mixture == {
        "python": 1.0,
        "c": 2.0,
    }


def test_a_new_name_replaces_the_section_whatever_the_order(load):
    for arguments in (("optimizer.name=adamw", "optimizer.lr=1e-3"), ("optimizer.lr=1e-3", "optimizer.name=adamw")):
        optimizer = load(*arguments).optimizer
        assert (optimizer.name, optimizer.lr, optimizer.betas) == ("adamw", 1e-3, [0.9, 0.95])


def test_interpolation_sees_overrides(load, write):
    assert load("save_folder=out/${run_name}", "run_name=new").save_folder == "out/new"


def test_files_are_laid_over_the_first_in_order_and_arguments_over_them(load, write):
    write("base.yaml", "seed: 1\ndevice_eval_batch_size: 2\n")
    write("a.yaml", "extends: base.yaml\nseed: 2\nmodel: {n_layers: 2}\n")
    write("b.yml", "seed: 3\ntrain_data: {mixture: {rust: 1}}\n")
    config = load("max_duration=1ba", "a.yaml", "device_eval_batch_size=4", "b.yml")
    assert (config.seed, config.max_duration, config.device_eval_batch_size) == (3, "1ba", 4)
    assert (config.model.n_layers, config.model.d_model) == (2, 128)
    assert config.train_data.mixture == {"rust": 1.0}


def test_a_problem_of_a_file_laid_over_is_reported_at_its_own_line(problems, write):
    path = write("x.yaml", "train")
    assert problems("train", path, write("over.yaml", "seed: 1\nmodel:\n  n_layer: 2\n")) == [
        "over.yaml:3:3: model.n_layer: unknown key; write `model.n_layers`"
    ]
    assert problems("train", path, "absent.yaml") == ["absent.yaml: no such file; that folder has over.yaml, x.yaml"]


MALFORMED = {
    "seed": "is not `key=value`, such as optimizer.lr=1e-4 (no spaces around the =)",
    "+seed=3": "no plus sign is needed; write seed=3",
    "++seed=3": "no plus sign is needed; write seed=3",
    "~seed=3": "a key cannot be deleted; write seed=null where null is allowed",
    "~seed": "a key cannot be deleted; write seed=null where null is allowed",
    "=3": "has no key before the =; write key=value, without spaces around the =",
    "seed=": "has no value; write seed=null for none, and no space after the =",
    "optimizer.betas.0=0.5": "a list is given whole, such as optimizer.betas=[0.9,0.95]",
    "optimizer.betas[0]=0.5": "a list is given whole, such as optimizer.betas=[0.9,0.95]",
    "optimizer..lr=3": "`optimizer..lr` has an empty part; write the keys with single dots between them",
    "extends=x.yaml": "`extends` is read from YAML files only",
    "load_path=[1": "load_path: the value is not valid YAML: a bracket `[` or `{` is not closed, or a comma is missing",
    "load_path=*.py": "load_path: the value is not valid YAML: a text that starts with `*` or `&` must be in quotes,"
    ' such as "*.py"',
    "seed.x=3": "seed.x: seed is not a section, so it has no key `x`",
    "run_name.x=3": "run_name.x: run_name is not a section, so it has no key `x`",
    "optimizer.lrr=3": "optimizer.lrr: unknown key; did you mean `lr`?",
    "train_data.mixture.pyton=3": "train_data.mixture.pyton: `pyton` is none of the 20 languages; did you mean"
    " `python`?",
    "load_path={a: 1, a: 2}": "load_path.a: the key is here a second time (first in line 1); delete one of the two",
}


@pytest.mark.parametrize(("argument", "message"), MALFORMED.items())
def test_a_malformed_argument_gets_a_sentence(argument, message, write, problems):
    assert f"command line `{argument}`: {message}" in problems("train", write("x.yaml", "train"), argument)


def test_the_entry_of_a_preset_cannot_be_edited(write, problems):
    path = write("x.yaml", "train")
    argument = "train_data.mixture.python=0.5"
    assert problems("train", path, "train_data.mixture=natural", argument) == [
        f"command line `{argument}`: train_data.mixture.python: train_data.mixture is `natural`, so it has no entry to"
        " change; give it whole: train_data.mixture={python: 0.5}"
    ]
