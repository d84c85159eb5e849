#!/usr/bin/env bash
# Did continuing on a repository's surroundings help on that repository? All steps of docs/case-study.md; each finds what
# is there and does the rest. What stands behind the three is laid over the training's YAML.
#   bash yamls/case_study/run.sh REPOSITORY ENVIRONMENT/bin/python FOLDER_OF_REPOSITORIES [key=value …]
#   GPUS=8 bash yamls/case_study/run.sh …      with gpu.yaml, on so many GPUs
set -euo pipefail
repository=$(realpath "$1") python=$(realpath -s "$2") surroundings=$(realpath "$3")
shift 3
cd "$(dirname "$0")/../.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_PROGRESS_BARS=1
run=runs/case_study yamls=yamls/case_study
launch=(python) training=train.yaml data=()
if [ "${GPUS:-0}" -gt 0 ]; then
  launch=(composer -n "$GPUS") training=gpu.yaml data=(max_seq_len=2048)
fi

mkdir -p $run
ln -sfn "$surroundings" $run/repositories
[ -e $run/base ] || python train/import_gguf.py --smollm2 $run/base
python eval/build_repo_benchmark.py "$repository" --python "$python" -o $run/bench --share 0.8 --held-out 0.2
python data_prep/main.py $yamls/data.yaml "${data[@]}"
"${launch[@]}" train/main.py $yamls/$training "$@"
for model in base tuned; do
  path=$([ $model = base ] && echo $run/base || echo $run/checkpoints/latest)
  "${launch[@]}" eval/main.py $yamls/eval.yaml model.path="$path" run_name=$model
done
python eval/compare.py base=$run/eval/base tuned=$run/eval/tuned --audit $run/data -o $run/compared
