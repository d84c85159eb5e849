"""Near duplicates over a corpus of any size."""
