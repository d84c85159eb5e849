#!/usr/bin/env bash
# What `make smollm2` runs: a real pretrained model, continued on a folder of code (CODE=/path/to/code; default
# Composer's sources), and the loss on held-out files of that folder before and after. Each CODE has a folder of its own.
set -euo pipefail
code=${CODE:+$(realpath "$CODE")}
cd "$(dirname "$0")/../.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_PROGRESS_BARS=1
run=runs/smollm2${code:+-$(basename "$code")}
[ -e runs/smollm2/base ] || python train/import_gguf.py --smollm2 runs/smollm2/base
python data_prep/main.py yamls/finetune/smollm2_data.yaml "output_folder=$run/data" ${code:+"sources.code.path=$code"}
python train/main.py yamls/finetune/smollm2_cpu.yaml "train_data.path=$run/data" "eval_data.heldout.path=$run/data" \
  "save_folder=$run/checkpoints"
