"""Take repositories out of a prepared corpus: a new folder without them, from the shards alone.

python data_prep/withdraw.py runs/data someone/project -o runs/data-without
python data_prep/withdraw.py runs/data 'someone/*' other/project -o runs/data-without
"""

import argparse

from codelm.errors import exit_on_error
from codelm.interruption import end_in_order_on_sigterm


@exit_on_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="an output folder of data_prep/main.py; it is only read")
    parser.add_argument("repositories", nargs="+", help="names as documents.jsonl has them, or glob patterns of names")
    parser.add_argument("-o", "--output", required=True, help="a folder that does not exist yet")
    arguments = parser.parse_args()
    end_in_order_on_sigterm()

    # It imports for a second, in which Ctrl-C must find its handler in place.
    from progress import ProgressBars
    from sample_text import printable

    from codelm.console import setup_logging
    from codelm.data.packing.withdraw import withdraw

    setup_logging()
    with ProgressBars() as progress:
        done = withdraw(arguments.folder, arguments.repositories, arguments.output, progress)
    print(f"withdrawn: {', '.join(map(printable, done.repositories))}: {done.files:,} files, {done.tokens:,} tokens")
    for split, languages in done.manifest.splits.items():
        for language, info in languages.items():
            print(f"{split:<12}{language:<18}{info.samples:>10,} samples of {info.files:,} files")
    if done.unwritten_files:
        print(
            f"{done.unwritten_files:,} files of other repositories are gone as well: they were in no sample of"
            f" {arguments.folder}, only in the last row, which was not full and so never written"
        )
    print(f"read back and compared: {arguments.output} (manifest {done.manifest.hash[:12]})")


if __name__ == "__main__":
    main()
