"""A preparation as jobs of a Slurm cluster: scripts to submit, in which each stage waits for the one before.

All nodes must see the sources, the output folder, this folder and the Python environment under the same paths.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from codelm.data.prepare import IN_SHARDS, STAGES
from codelm.data.shards import write_atomically

JOB_SCRIPT, SUBMIT_SCRIPT = "stage.sh", "submit.sh"
_ARRAY_TASKS = 64


def write_scripts(folder: Path, run_name: str, recipe: Path, arguments: Sequence[str], array_tasks: int | None) -> Path:
    """Write the job script and the script that submits all stages; returns the latter.

    Args:
        folder: where the scripts and the logs go.
        recipe: data_prep/main.py.
        arguments: the YAML file and the overrides, as they were given.
        array_tasks: jobs of each stage that is shared; None means 64.
    """
    folder = folder.resolve()
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    tasks = array_tasks or _ARRAY_TASKS
    command = shlex.join([sys.executable, str(recipe.resolve()), *arguments])
    job = f"""#!/bin/bash
#SBATCH --job-name={run_name}
#SBATCH --output={folder}/logs/%x-%A-%a.log
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=2G
#SBATCH --requeue
# One job: `stage.sh STAGE SHARDS`, or `stage.sh finish` for what is left. A job that was killed is run again as it is.
set -eu
cd {shlex.quote(os.getcwd())}
if [ "$1" = finish ]; then
  exec {command} engine=local num_workers=null
fi
exec {command} --stage "$1" --shard "${{SLURM_ARRAY_TASK_ID:-0}}/$2"
"""
    lines = [
        "#!/bin/bash",
        "# Submits the stages; each begins when all jobs of the one before have ended well.",
        f"# Options of sbatch go to every job: {SUBMIT_SCRIPT} --partition=cpu --account=…",
        "set -eu",
        "last=",
        "submit() {  # submit SBATCH-OPTIONS… -- STAGE…",
        "  local options=() wait=()",
        '  while [ "$1" != -- ]; do options+=("$1"); shift; done; shift',
        '  if [ -n "$last" ]; then wait=("--dependency=afterok:$last"); fi',
        f'  last=$(sbatch --parsable "${{wait[@]}}" "${{options[@]}}" {shlex.quote(str(folder / JOB_SCRIPT))} "$@")',
        '  last=${last%%;*}; echo "$1: job $last"',
        "}",
    ]
    for stage in STAGES:
        shards = tasks if stage in IN_SHARDS else 1
        array = f" --array=0-{shards - 1}" if stage in IN_SHARDS else ""
        lines.append(f'submit "$@"{array} -- {stage} {shards}')
    lines.append('submit "$@" -- finish')
    write_atomically(folder / JOB_SCRIPT, job.encode())
    write_atomically(folder / SUBMIT_SCRIPT, ("\n".join(lines) + "\n").encode())
    for name in (JOB_SCRIPT, SUBMIT_SCRIPT):
        (folder / name).chmod(0o755)
    return folder / SUBMIT_SCRIPT
