"""Importing torch, transformers and Composer without the garbage collector's help."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def many_imports() -> Iterator[None]:
    """Let no garbage be looked for meanwhile, nor ever again in what was made.

    A few thousand modules make a million objects that live as long as the process, and hardly any garbage. Looking
    through them again and again is a fifth of the time of their import, and a second at the end of the process.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
