"""The report of a run: one page made from what the run left in its save_folder."""
