"""The files of yamls/finetune really run: made tiny and local by overrides, nothing else of them is changed."""

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch

from codelm.config import load_config
from codelm.config.data import DataConfig
from codelm.config.train import TrainConfig
from codelm.data.manifest import load_manifest
from codelm.data.prepare import prepare
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.saving import save_transformers
from codelm.tokenizer import load_tokenizer
from codelm.train.run import train

YAMLS = Path(__file__).parents[2] / "yamls" / "finetune"
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
    small = ["max_seq_len=256", "num_workers=1", f"tokenizer.path={base}", f"output_folder={output}"]
    config = load_config("data", str(YAMLS / name), [*small, *overrides])
    assert isinstance(config, DataConfig)
    prepare(config)
    return output


def trained(name: str, base: Path, data: Path, *overrides: str) -> dict[str, float]:
    """All that two batches log."""
    small = [
        "max_seq_len=256",
        f"model={json.dumps({'name': 'replit_code', 'size': None, **SHAPE})}",
        f"load_path={base}",
        f"tokenizer.path={data}/tokenizer",
        f"train_data.path={data}",
        "train_data.num_workers=0",
        "max_duration=2ba",
        "global_train_batch_size=4",
        "device_train_microbatch_size=2",
        "scheduler.t_warmup=1ba",
        "fsdp_config=null",
        "device=cpu",
        f"save_folder={data.parent}/checkpoints",
    ]
    config = load_config("train", str(YAMLS / name), [*small, *overrides])
    assert isinstance(config, TrainConfig)
    train(config)
    lines = (data.parent / "checkpoints" / "metrics.jsonl").read_text().splitlines()
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


def test_private_repositories(base: Path, corpus: Path, tmp_path: Path) -> None:
    source = f"sources.repositories.path={repositories(tmp_path / 'repositories')}"
    data = prepared("private_data.yaml", base, tmp_path / "data", source, "split.validation=0.6")
    manifest = load_manifest(data)
    documents = "".join(path.read_text() for path in data.rglob("documents.jsonl"))
    assert "__init__.py" in documents
    assert "settings.py" not in documents
    assert {"train", "validation"} <= set(manifest.splits)
    logged = trained(
        "private.yaml",
        base,
        data,
        f"train_data.replay.path={corpus}",
        f"eval_data.private.path={data}",
        f"eval_data.before.path={corpus}",
        "eval_data.private.max_samples_per_language=2",
        "eval_data.before.max_samples_per_language=2",
    )
    measured = {key for key in logged if key.endswith("BitsPerByte")}
    assert measured >= {f"metrics/{name}/python/BitsPerByte" for name in ("private", "before")}


def test_instructions(base: Path, tmp_path: Path) -> None:
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
    logged = trained("instructions.yaml", base, data, f"eval_data.heldout.path={data}")
    assert logged["metrics/instructions/BitsPerByte"] > 0
