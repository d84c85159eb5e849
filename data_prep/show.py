"""Show samples of a prepared corpus as text, and the files they come from.

python data_prep/show.py runs/quickstart/data                              what there is
python data_prep/show.py runs/quickstart/data python 0 17                  two samples of one language
python data_prep/show.py runs/quickstart/data python 0 --fim 0.5           as training with fim.rate 0.5 would see it
python data_prep/show.py --step 120 --config yamls/quickstart/train.yaml   the files that training step 120 learns from

Special pieces are written out, and what has no loss is dim on a terminal and in ⟦ ⟧ elsewhere. With fill in the middle,
prefix, suffix and middle are blue, green and bold. Step 1 is a run's first; a checkpoint named ba120 is after step 120.
"""

from codelm.errors import exit_on_error


@exit_on_error
def main() -> None:
    # It imports for a second, in which Ctrl-C must find its handler in place.
    from showing import run

    run(__doc__)


if __name__ == "__main__":
    main()
