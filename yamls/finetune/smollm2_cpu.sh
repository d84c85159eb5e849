#!/usr/bin/env bash
# What `make smollm2` runs: a real pretrained model, continued on a folder of code (CODE=/path/to/code; default
# Composer's sources), and the loss on held-out files of that folder before and after.
set -euo pipefail
cd "$(dirname "$0")/../.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
[ -e runs/smollm2/base ] || python train/import_gguf.py --smollm2 runs/smollm2/base
python data_prep/main.py yamls/finetune/smollm2_data.yaml ${CODE:+"sources.code.path=$CODE"}
python train/main.py yamls/finetune/smollm2_cpu.yaml
