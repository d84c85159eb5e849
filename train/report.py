"""Write the report of a run, finished or not: `python train/report.py SAVE_FOLDER` writes SAVE_FOLDER/report.html."""

import argparse
from pathlib import Path

from codelm.errors import exit_on_error


@exit_on_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("save_folder", type=Path, help="where the run keeps its checkpoints and metrics.jsonl")
    arguments = parser.parse_args()

    from codelm.train.report.page import write_report

    print(f"wrote {write_report(arguments.save_folder)}")


if __name__ == "__main__":
    main()
