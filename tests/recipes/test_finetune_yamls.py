"""The files of yamls/finetune really run, scaled down as a user can do it; nothing else of them is changed."""

import json
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from codelm.config import load_config
from codelm.config.data import DataConfig
from codelm.config.train import TrainConfig
from codelm.data.manifest import load_manifest
from codelm.data.prepare import prepare
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.saving import save_transformers
from codelm.tokenizer import load_tokenizer
from codelm.train.run import train

ROOT = Path(__file__).parents[2]
YAMLS = ROOT / "yamls" / "finetune"
SHAPE = {"d_model": 32, "n_heads": 4, "n_layers": 1}


@pytest.fixture(scope="module")
def base(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to start from, with the tokenizer of the corpus that is replayed."""
    tokenizer = load_tokenizer(corpus / "tokenizer")
    torch.manual_seed(0)
    config = ReplitCodeConfig(
        d_model=SHAPE["d_model"],
        n_heads=SHAPE["n_heads"],
        n_layers=SHAPE["n_layers"],
        vocab_size=tokenizer.vocab_size,
        max_seq_len=256,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    folder = tmp_path_factory.mktemp("base") / "checkpoint"
    save_transformers(ReplitCodeForCausalLM(config).state_dict(), config, corpus / "tokenizer", folder)
    return folder


def prepared(name: str, base: Path, output: Path, *overrides: str) -> Path:
    small = [str(ROOT / "yamls" / "scale_down_data.yaml"), f"tokenizer.path={base}", f"output_folder={output}"]
    config = load_config("data", str(YAMLS / name), [*small, *overrides])
    assert isinstance(config, DataConfig)
    prepare(config)
    return output


def of_ours(base: Path) -> list[str]:
    """A run of our model: scaled down, and to the shape of `base`."""
    shape = [f"model.{key}={value}" for key, value in SHAPE.items()]
    return [str(ROOT / "yamls" / "scale_down.yaml"), *shape, f"load_path={base}"]


def trained(name: str, data: Path, small: list[str], *overrides: str) -> dict[str, float]:
    """All that the run logs."""
    folder = data.parent / Path(name).stem
    paths = [f"tokenizer.path={data}/tokenizer", f"train_data.path={data}", f"save_folder={folder}"]
    config = load_config("train", str(YAMLS / name), [*small, *paths, *overrides])
    assert isinstance(config, TrainConfig)
    train(config)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {key: value for line in lines for key, value in json.loads(line).items()}


def repositories(folder: Path) -> Path:
    """Git repositories of real code, one of them with a key in a file."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    for package in ("json", "email", "asyncio", "logging", "xml/dom", "unittest", "urllib", "html"):
        repository = folder / package.replace("/", "-")
        repository.mkdir(parents=True)
        for file in sorted((stdlib / package).glob("*.py"))[:4]:
            (repository / file.name).write_bytes(file.read_bytes())
        if package == "json":
            key = "AKIA" + "Q3EGRXTN5DMJZ2WL"
            (repository / "settings.py").write_text(f'import os\n\naws_access_key_id = "{key}"\nREGION = os.sep\n')
        git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.org"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "code"]):
            subprocess.run([*git, *command], check=True)
    return folder


def test_private_repositories_by_all_weights_and_by_adapters(base: Path, corpus: Path, tmp_path: Path) -> None:
    source = f"sources.repositories.path={repositories(tmp_path / 'repositories')}"
    data = prepared("private_data.yaml", base, tmp_path / "data", source, "split.validation=0.6")
    manifest = load_manifest(data)
    documents = "".join(path.read_text() for path in data.rglob("documents.jsonl"))
    assert "__init__.py" in documents
    assert "settings.py" not in documents
    assert {"train", "validation"} <= set(manifest.splits)
    paths = [
        f"train_data.replay.path={corpus}",
        f"eval_data.private.path={data}",
        f"eval_data.before.path={corpus}",
        "eval_data.private.max_samples_per_language=2",
        "eval_data.before.max_samples_per_language=2",
    ]
    for name in ("private", *(["lora"] if find_spec("peft") else [])):
        logged = trained(f"{name}.yaml", data, of_ours(base), *paths)
        measured = {key for key in logged if key.endswith("BitsPerByte")}
        assert measured >= {f"metrics/{name}/python/BitsPerByte" for name in ("private", "before")}
        newest = (tmp_path / name / "latest").resolve()
        assert (newest / "adapter_config.json").is_file() == (name == "lora")


@pytest.fixture(scope="module")
def qwen(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of transformers, with the layers of few bits."""
    torch.manual_seed(0)
    vocab_size = load_tokenizer(corpus / "tokenizer").vocab_size
    fields = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Qwen2Config(**fields, num_key_value_heads=2, vocab_size=vocab_size, max_position_embeddings=256)
    folder = tmp_path_factory.mktemp("qwen") / "checkpoint"
    save_transformers(Qwen2ForCausalLM(config).state_dict(), config, corpus / "tokenizer", folder)
    return folder


def test_instructions_by_all_weights_and_over_four_bits(base: Path, qwen: Path, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Name the {number}th letter of {word}."},
                {"role": "assistant", "content": f"It is `{word[number]}`, the {number}th of {len(word)}."},
            ]
        }
        for number in range(5)
        for word in ("python", "javascript", "kotlin", "haskell", "erlang", "fortran", "clojure")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"sources.conversations.files=[{tmp_path}/*.jsonl]"
    data = prepared("instructions_data.yaml", base, tmp_path / "data", source, "split.by=file", "split.validation=0.2")
    paths = f"eval_data.heldout.path={data}"
    logged = trained("instructions.yaml", data, of_ours(base), paths)
    assert logged["metrics/instructions/BitsPerByte"] > 0
    if find_spec("peft") and find_spec("bitsandbytes"):
        small = [str(ROOT / "yamls" / "scale_down_run.yaml"), f"model.pretrained_model_name_or_path={qwen}"]
        logged = trained("qlora.yaml", data, small, paths)
        assert logged["metrics/instructions/BitsPerByte"] > 0
