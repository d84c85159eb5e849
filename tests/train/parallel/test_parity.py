"""One rank, DDP, FSDP2 and its hybrids train alike: to the bit where the sums are the same, else to rounding."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

pytestmark = pytest.mark.timeout(1800)

Found = dict[str, dict[str, Any]]
Train = Callable[[int, dict[str, dict[str, Any]]], Found]

FULL, GRAD_OP = {"sharding_strategy": "FULL_SHARD"}, {"sharding_strategy": "SHARD_GRAD_OP"}
# One sample on each rank: what one rank adds up, two ranks add up, in whatever order. Clipping measures parts.
SAME = {
    "global_train_batch_size": 2,
    "device_train_microbatch_size": 1,
    "algorithms": {"gradient_clipping": None},
}
ACCUMULATED = {"global_train_batch_size": 8, "device_train_microbatch_size": 2}
# What the second rank lacks in the search for a microbatch of up to four samples, and what is found then.
LACKING = {"nothing": 4, "memory": 1, "time": 1, "room for four": 2}


@pytest.fixture(scope="module")
def train(launch: Any, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains named runs on so many ranks, each with one thread."""
    root = tmp_path_factory.mktemp("parity")
    settings = {
        "run_name": "parity",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 3},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "optimizer": {"name": "lionw", "lr": 1.0},
        "algorithms": {"gradient_clipping": {"clipping_threshold": 0.5}},
        "max_duration": "3ba",
        "device": "cpu",
        "save_interval": "3ba",
    }

    def train(ranks: int, runs: dict[str, dict[str, Any]]) -> Found:
        folder = root / f"{ranks}-{len([*root.iterdir()])}"
        folder.mkdir()
        (folder / "settings.json").write_text(json.dumps({**settings, "save_folder": str(folder)}))
        (folder / "runs.json").write_text(json.dumps(runs))
        files = [folder / "settings.json", folder / "runs.json", folder / "found.json"]
        launch.script(Path(__file__).with_name("ranks.py"), *files, ranks=ranks)
        return json.loads(files[-1].read_text())

    return train


@pytest.fixture(scope="module")
def one(train: Train) -> Found:
    return train(1, {"same": SAME, "accumulated": ACCUMULATED, "four": {**ACCUMULATED, "global_train_batch_size": 4}})


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The model section of a model that is not ours, whose buffers (rotary frequencies) are in no checkpoint."""
    folder = tmp_path_factory.mktemp("llama")
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    LlamaConfig(vocab_size=512, max_position_embeddings=256, tie_word_embeddings=True, **sizes).save_pretrained(folder)
    return {"name": "hf_causal_lm", "pretrained_model_name_or_path": str(folder), "pretrained": False}


@pytest.fixture(scope="module")
def two(train: Train, one: Found, llama: dict[str, Any]) -> Found:
    runs: dict[str, dict[str, Any]] = {
        "ddp": SAME,
        "full": {**SAME, "fsdp_config": FULL},
        "grad_op": {**SAME, "fsdp_config": GRAD_OP},
        "checkpointed": {**SAME, "fsdp_config": FULL, "activation_checkpointing": {"every": 2, "selective": True}},
        "ddp_accumulated": ACCUMULATED,
        "full_accumulated": {**ACCUMULATED, "fsdp_config": FULL},
        "ddp_auto": {**ACCUMULATED, "device_train_microbatch_size": "auto"},
        "loaded": {**SAME, "fsdp_config": FULL, "load_path": one["same"]["checkpoint"]},
        "llama_ddp": {**SAME, "model": llama},
        "llama_full": {**SAME, "model": llama, "fsdp_config": FULL},
        "full_auto": {**ACCUMULATED, "fsdp_config": FULL, "device_train_microbatch_size": "auto"},
    }
    for lacking in LACKING:
        runs[lacking] = {**runs["ddp_auto"], "second_rank": lacking}
    return train(2, runs)


@pytest.mark.world_size(2)
@pytest.mark.parametrize("lacking", LACKING)
def test_ranks_agree_on_the_microbatch_of_the_one_that_can_do_least(two: Found, lacking: str) -> None:
    assert two[lacking]["microbatches"] == [LACKING[lacking]] * 2
    assert two["ddp"]["microbatches"] == [1, 1]


@pytest.mark.world_size(2)
@pytest.mark.parametrize("kind", ["ddp", "full", "grad_op"])
def test_two_ranks_are_one_to_the_bit_where_the_sums_are_the_same(one: Found, two: Found, kind: str) -> None:
    assert two[kind]["last"] == one["same"]["last"] != one["same"]["first"]
    assert two[kind]["losses"] == pytest.approx(one["same"]["losses"], rel=1e-7)


@pytest.mark.world_size(2)
@pytest.mark.parametrize("kind", ["ddp_accumulated", "full_accumulated", "ddp_auto", "full_auto"])
def test_accumulated_gradients_differ_by_rounding_alone(one: Found, two: Found, kind: str) -> None:
    """Whatever size the ranks agreed on where it is auto."""
    assert two[kind]["losses"] == pytest.approx(one["accumulated"]["losses"], rel=1e-6)


@pytest.mark.world_size(2)
@pytest.mark.parametrize("kind", ["ddp_accumulated", "full_accumulated"])
def test_clipping_measures_the_same_norms(one: Found, two: Found, kind: str) -> None:
    assert two[kind]["norms"] == pytest.approx(one["accumulated"]["norms"], rel=1e-5)
    # The threshold was passed: a wrong scale would have changed the weights.
    assert min(one["accumulated"]["norms"]) > 0.5


@pytest.mark.world_size(2)
def test_every_run_starts_from_the_same_weights_of_which_a_rank_holds_its_part(one: Found, two: Found) -> None:
    fresh = [run for name, run in {**one, **two}.items() if name != "loaded" and not name.startswith("llama")]
    assert {run["first"] for run in fresh} == {one["same"]["first"]}
    assert two["ddp"]["held"] == one["same"]["held"]
    assert two["full"]["held"] < 0.51 * one["same"]["held"]


@pytest.mark.world_size(2)
def test_ranks_without_values_get_those_that_rank_0_loaded(one: Found, two: Found) -> None:
    assert two["loaded"]["first"] == one["same"]["last"]


@pytest.mark.world_size(2)
def test_a_model_of_transformers_starts_and_trains_sharded_as_whole(two: Found) -> None:
    assert two["llama_full"]["first"] == two["llama_ddp"]["first"]
    assert two["llama_full"]["losses"] == pytest.approx(two["llama_ddp"]["losses"], rel=1e-7)
    assert two["llama_full"]["last"] == two["llama_ddp"]["last"] != two["llama_ddp"]["first"]


@pytest.mark.world_size(2)
def test_activation_checkpointing_changes_no_bit(two: Found) -> None:
    assert two["checkpointed"]["last"] == two["full"]["last"]


@pytest.mark.slow
@pytest.mark.world_size(4)
def test_hybrids_of_two_copies_of_two_parts_train_as_one_rank(train: Train, one: Found) -> None:
    four = {"global_train_batch_size": 4, "device_train_microbatch_size": 1}
    runs: dict[str, dict[str, Any]] = {"full": {**four, "fsdp_config": FULL}}
    for name, strategy in {"hybrid": "HYBRID_SHARD", "hybrid_grad_op": "_HYBRID_SHARD_ZERO2"}.items():
        section = {"sharding_strategy": strategy, "data_parallel_replicate_degree": 2}
        runs[name] = {**four, "fsdp_config": section}
    found = train(4, runs)
    for run in found.values():
        assert run["losses"] == pytest.approx(one["four"]["losses"], rel=1e-6)
        assert run["norms"] == pytest.approx(one["four"]["norms"], rel=1e-5)
        assert run["first"] == one["four"]["first"]
    assert found["hybrid"]["held"] == pytest.approx(2 * found["full"]["held"], rel=0.01)


@pytest.mark.slow
@pytest.mark.world_size(2)
def test_fsdp1_trains_to_the_same_bit_too(train: Train, one: Found) -> None:
    """On CPU, which takes stand-ins for what Composer asks of a GPU; see ranks.py."""
    sections = {"full": FULL, "grad_op": GRAD_OP}
    found = train(2, {name: {**SAME, "fsdp_config": {**own, "version": 1}} for name, own in sections.items()})
    for run in found.values():
        assert run["last"] == one["same"]["last"]
        assert run["norms"] == pytest.approx(one["same"]["norms"], rel=1e-6)
