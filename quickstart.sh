#!/usr/bin/env bash
# What `make quickstart` runs: source code → shards → trained model → HumanEval → a transformers folder.
# Every step continues or reuses what is there; `make clean` starts over.
set -euo pipefail
cd "$(dirname "$0")"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_PROGRESS_BARS=1

step() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n%s\n' "$1" "  $2"; else printf '\n%s\n%s\n' "$1" "  $2"; fi; }
run() { printf '  $ %s\n' "$*"; "$@"; }
began=$SECONDS

step "1/4 corpus" "the Python standard library and the installed packages' sources: clean, tokenise, pack"
run python data_prep/main.py yamls/quickstart/data.yaml

step "2/4 training" "a small replit-code model with Composer; kill it at any moment, run again, and it goes on"
run python train/main.py yamls/quickstart/train.yaml

step "3/4 evaluation" "HumanEval: completions judged in a sandbox"
run python eval/main.py yamls/quickstart/eval.yaml

step "4/4 export" "a folder that transformers loads without remote code"
if [ -e runs/quickstart/model ]; then
  echo "  runs/quickstart/model is there already"
else
  run python eval/export.py runs/quickstart/checkpoints/latest --to transformers -o runs/quickstart/model
fi
python - <<'PYTHON'
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.logging.set_verbosity_error()
tokenizer = AutoTokenizer.from_pretrained("runs/quickstart/model")
model = AutoModelForCausalLM.from_pretrained("runs/quickstart/model")
prompt = "class Reader:\n    def __init__(self, path):\n        self.path = path\n\n    def read(self):\n        self."
ids = tokenizer(prompt, return_tensors="pt").input_ids
out = model.generate(ids, max_new_tokens=48, do_sample=False, repetition_penalty=1.3)
print("  it completes, in plain transformers (two minutes of training: syntax, not sense):\n")
print("    " + tokenizer.decode(out[0], skip_special_tokens=True).replace("\n", "\n    "))
PYTHON

cat <<EOF

Done in $((SECONDS - began)) s. What is where:
  runs/quickstart/data          shards by language, tokenizer, manifest (every sample traceable to its file)
  runs/quickstart/checkpoints   checkpoints; metrics.jsonl has every number of the run
  runs/quickstart/eval          completions, verdicts, summary of HumanEval
  runs/quickstart/model         the model for transformers
Next:
  your own code      python data_prep/main.py yamls/own_code/data.yaml sources.code.path=/path/to/repo
                     python train/main.py yamls/own_code/train.yaml
  train longer       python train/main.py yamls/quickstart/train.yaml max_duration=2000ba save_folder=runs/longer
  two ranks, FSDP2   composer -n 2 train/main.py yamls/quickstart/train.yaml fsdp_config={} save_folder=runs/two-ranks
  a real model       make smollm2
EOF
