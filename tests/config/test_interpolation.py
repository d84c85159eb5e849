"""`${…}` is resolved by OmegaConf, and every one that cannot be is a problem of its own."""

import sysconfig

import pytest

from codelm.config import load_config


def with_lines(write, *lines: str) -> str:
    write("base.yaml", "train")
    return write("x.yaml", "\n".join(["extends: base.yaml", *lines, ""]))


def test_a_value_may_name_another_of_any_file(write):
    config = load_config("train", with_lines(write, "save_folder: runs/${run_name}", "seed: ${max_seq_len}"))
    assert (config.save_folder, config.seed) == ("runs/small", 512)


def test_a_section_may_name_another(write):
    config = load_config("train", with_lines(write, "eval_data: {a: {path: x}, b: '${eval_data.a}'}"))
    assert config.eval_data["a"] == config.eval_data["b"]


def test_environment_and_this_pythons_folders(write, monkeypatch):
    monkeypatch.setenv("CODELM_N", "7")
    write("base.yaml", "data")
    path = write(
        "x.yaml",
        """
        extends: base.yaml
        seed: ${oc.decode:${oc.env:CODELM_N}}
        sources:
          lib: {path: "${sysconfig:stdlib}"}
          packages: {path: "${sysconfig:purelib}"}
          other: {path: "${oc.env:CODELM_UNSET,there}/x"}
        """,
    )
    config = load_config("data", path)
    assert config.seed == 7
    assert config.sources["lib"].path == sysconfig.get_path("stdlib")
    assert config.sources["packages"].path == sysconfig.get_path("purelib")
    assert config.sources["other"].path == "there/x"


def test_an_escaped_dollar_is_text(write):
    assert load_config("train", with_lines(write, r"load_path: a\${b}")).load_path == "a${b}"


BROKEN = {
    "${rn_name}": "`${rn_name}` names no key of the YAML; did you mean `${run_name}`?",
    "${nothing.like.it}": "`${nothing.like.it}` names no key of the YAML; ${…} reaches only what the YAML gives, not"
    " defaults",
    "${oc.env:CODELM_UNSET}": "the environment variable CODELM_UNSET is not set; set it, or write"
    " ${oc.env:CODELM_UNSET,default}",
    "${sysconf:stdlib}": "there is no resolver `sysconf`; there are ${key}, ${oc.env:NAME} and ${sysconfig:stdlib}",
    "${run_name": "`${run_name` is not a well-formed ${…} expression",
    "${load_path}": "the ${…} references go round in a circle",
    "${${run_name}}": "a ${…} inside the name of another is not supported",
    "???": "has no value yet (`???`); give it one",
}


@pytest.mark.parametrize(("value", "message"), BROKEN.items())
def test_a_broken_one_gives_one_line(value, message, write, problems):
    assert problems("train", with_lines(write, f"load_path: '{value}'")) == [f"x.yaml:2:1: load_path: {message}"]


def test_an_unknown_folder_of_sysconfig_lists_the_known(write, problems):
    (found,) = problems("train", with_lines(write, "load_path: ${sysconfig:stdlibb}"))
    assert "`stdlibb` is none of" in found
    assert "purelib" in found


def test_several_broken_ones_are_all_reported_without_their_consequences(write, problems):
    path = with_lines(write, "seed: ${a}", "optimizer: {name: '${b}'}", "train_data: {mixture: '${c}'}", "devise: gpu")
    assert [line.split(": ")[1] for line in problems("train", path)] == [
        "seed",
        "optimizer.name",
        "train_data.mixture",
        "devise",
    ]


def test_long_circles_and_explosions_are_stopped(write, problems):
    circle = with_lines(write, "load_path: ${device}", "device: ${precision}", "precision: ${load_path}")
    assert [line.split(": ")[2] for line in problems("train", circle)] == [
        "the ${…} references go round in a circle"
    ] * 3
    doubling = [f"k{level}: '${{k{level - 1}}}${{k{level - 1}}}'" for level in range(1, 60)]
    found = problems("train", with_lines(write, "k0: x", *doubling))
    assert any("expand to far too much" in line for line in found)
    sections = [f"s{level}: {{a: '${{s{level - 1}}}', b: '${{s{level - 1}}}'}}" for level in range(1, 60)]
    found = problems("train", with_lines(write, "s0: {a: 1}", *sections))
    assert any("expand to far too much" in line for line in found)
    long = "${run_name}" * 400
    found = problems(
        "train", with_lines(write, f"loggers: {{wandb: {{project: x, tags: [{', '.join([repr(long)] * 60)}]}}}}")
    )
    assert found[0].endswith("the ${…} references expand to far too much")
    inside = with_lines(write, "callbacks: {code_eval: '${callbacks}'}")
    assert problems("train", inside) == ["x.yaml:2:13: callbacks.code_eval: the ${…} references go round in a circle"]
