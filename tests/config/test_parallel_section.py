"""`fsdp_config`, `activation_checkpointing` and the microbatch size: Composer's names, mapped or refused."""

import pytest

from codelm.config import load_config, resolved_yaml
from codelm.errors import ConfigError


@pytest.fixture
def load(write):
    def load(*overrides: str):
        return load_config("train", write("x.yaml", "train"), [*overrides])

    return load


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("strategy", ["FULL_SHARD", "SHARD_GRAD_OP", "HYBRID_SHARD", "_HYBRID_SHARD_ZERO2"])
def test_both_versions_take_composers_strategies(load, version, strategy):
    section = load(f"fsdp_config={{version: {version}, sharding_strategy: {strategy}}}").fsdp_config
    assert (section.version, section.sharding_strategy) == (version, strategy)


REFUSED = [
    ("sharding_strategy: NO_SHARD", "leave fsdp_config out, which trains with DDP"),
    ("backward_prefetch: BACKWARD_POST", "version 2 always does BACKWARD_PRE"),
    ("forward_prefetch: true", "version 2 overlaps by itself"),
    ("limit_all_gathers: false", "version 2 always limits them"),
]


@pytest.mark.parametrize(("key", "sentence"), REFUSED)
def test_what_version_2_lacks_is_refused_with_the_remedy_and_version_1_takes_it(load, key, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load(f"fsdp_config={{{key}}}")
    assert load(f"fsdp_config={{version: 1, {key}}}").fsdp_config.version == 1


def test_what_version_2_does_anyway_may_be_said(load):
    section = load("fsdp_config={limit_all_gathers: true, backward_prefetch: BACKWARD_PRE}").fsdp_config
    assert section.limit_all_gathers


@pytest.mark.parametrize("version", [1, 2])
def test_copies_without_a_hybrid_strategy_are_refused(load, version):
    with pytest.raises(ConfigError, match="data_parallel_replicate_degree 2 is for HYBRID_SHARD"):
        load(f"fsdp_config={{version: {version}, data_parallel_replicate_degree: 2}}")


@pytest.mark.parametrize(
    "key", ["use_orig_params", "cpu_offload", "sync_module_states", "load_monolith_rank0_only", "process_group"]
)
def test_composers_other_keys_are_refused_each_with_its_reason(load, key):
    with pytest.raises(ConfigError, match=rf"fsdp_config.*{key}") as refusal:
        load(f"fsdp_config={{{key}: true}}")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "every", "selective"),
    [("true", 1, False), ("{}", 1, False), ("{every: 3}", 3, False), ("{selective: true}", 1, True)],
)
def test_activation_checkpointing_is_a_switch_or_a_section(load, write, given, every, selective):
    config = load(f"activation_checkpointing={given}")
    section = config.activation_checkpointing
    assert (section.every, section.selective) == (every, selective)
    assert load_config("train", write("y.yaml", resolved_yaml(config))) == config


@pytest.mark.parametrize("given", ["false", "null"])
def test_activation_checkpointing_is_off(load, given):
    assert load(f"activation_checkpointing={given}").activation_checkpointing is None


def test_the_microbatch_size_may_be_auto(load):
    assert load("device_train_microbatch_size=auto").device_train_microbatch_size == "auto"


@pytest.mark.parametrize("given", ["0", "-1", "large", "1.5", "true"])
def test_no_other_word_is_a_microbatch_size(load, given):
    with pytest.raises(ConfigError, match=r"device_train_microbatch_size: .*whole number above 0, or auto"):
        load(f"device_train_microbatch_size={given}")
