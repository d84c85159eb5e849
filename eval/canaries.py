"""Make canaries: secrets to plant in a training corpus, so that an audit can see whether they come out.

    python eval/canaries.py -o canaries/

Add what it prints to the sources of data preparation, train, and name the folder: eval/compare.py … --audit CORPUS
--canaries canaries/ (docs/comparing.md).
"""

import argparse
from pathlib import Path

from codelm.errors import exit_on_error


@exit_on_error
def main() -> None:
    # It imports for a second, in which Ctrl-C must find its handler in place.
    from auditing import lengths_of

    from codelm.eval.memorisation.canaries import FILES, make

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("-o", "--output", required=True, type=Path, help="a new folder; keep it, it holds the secrets")
    add("--count", type=int, default=4, help="of each kind and number of repeats (%(default)s)")
    add("--repeats", type=lengths_of, default=[1, 4, 16], help="files that hold the same secret (1,4,16)")
    add("--seed", type=int, help="the same secrets each time; left out: ones that nobody can know")
    arguments = parser.parse_args()
    canaries = make(arguments.output, max(1, arguments.count), sorted(set(arguments.repeats)), arguments.seed)
    files = sum(canary.repeats for canary in canaries)
    print(f"{len(canaries)} canaries in {files} files; plant them with these lines in data preparation's YAML:\n")
    print(f"sources:\n  canaries:\n    path: {arguments.output / FILES}\n    licence: CC0-1.0")


if __name__ == "__main__":
    main()
