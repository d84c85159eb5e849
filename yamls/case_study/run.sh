#!/usr/bin/env bash
# Did continuing on a repository's surroundings help on that repository? All steps of docs/case-study.md; each finds what
# is there and does the rest. What stands behind the three is laid over train.yaml.
#   bash yamls/case_study/run.sh REPOSITORY ENVIRONMENT/bin/python FOLDER_OF_REPOSITORIES [key=value …]
set -euo pipefail
repository=$(realpath "$1") python=$(realpath -s "$2") surroundings=$(realpath "$3")
shift 3
cd "$(dirname "$0")/../.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_PROGRESS_BARS=1
run=runs/case_study
mkdir -p $run
ln -sfn "$surroundings" $run/repositories
[ -e $run/base ] || python train/import_gguf.py --smollm2 $run/base
python eval/build_repo_benchmark.py "$repository" --python "$python" -o $run/bench --share 0.8 --held-out 0.2
python data_prep/main.py yamls/case_study/data.yaml
python train/main.py yamls/case_study/train.yaml "$@"
python eval/compare.py base=$run/base tuned=$run/checkpoints/latest --yaml yamls/case_study/eval.yaml \
  --audit $run/data -o $run/compared
