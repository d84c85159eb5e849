"""Best-fit-decreasing: pieces of documents into as few rows as possible, none of them cut.

After "Fewer Truncations Improve Language Modeling" (arXiv 2404.10830): the longest piece first, each into the row whose
room it fills best. The rows with room are kept in a stack for each size of room, and the sizes that occur as the bits
of one integer, so that finding the best row is a shift and the lowest bit that is set: a microsecond or two a piece.
"""

import numpy as np


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The row of each piece, int64 (n,), for lengths (n,) of 1 to `capacity`; rows are numbered from 0 without a gap.

    Depends on the lengths and their order alone.
    """
    row_of = np.empty(len(lengths), dtype=np.int64)
    rows_with: list[list[int]] = [[] for _ in range(capacity + 1)]
    occurring = 0
    rows = 0
    longest_first = np.argsort(-lengths.astype(np.int64), kind="stable")
    for piece, needed in zip(longest_first.tolist(), lengths[longest_first].tolist(), strict=True):
        enough = occurring >> needed
        if enough:
            room = needed + (enough & -enough).bit_length() - 1
            row = rows_with[room].pop()
            if not rows_with[room]:
                occurring ^= 1 << room
        else:
            room, row, rows = capacity, rows, rows + 1
        row_of[piece] = row
        left = room - needed
        if left:
            if not rows_with[left]:
                occurring |= 1 << left
            rows_with[left].append(row)
    return row_of
