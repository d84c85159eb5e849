"""What rank 0 alone finds out, for all ranks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

from composer.utils import dist

from codelm.errors import CodelmError, from_os_error

Result = TypeVar("Result")


def on_rank_zero(do: Callable[[], Result]) -> Result:
    """What a function gives on rank 0, on every rank, which must all call; its CodelmError or OSError too."""
    outcome: list[Any] = [None, None]
    if dist.get_global_rank() == 0:
        try:
            outcome[0] = do()
        except CodelmError as error:
            outcome[1] = error
        except OSError as error:
            outcome[1] = from_os_error(error)
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@contextmanager
def entered_on_rank_zero(context: AbstractContextManager[None]) -> Iterator[None]:
    """Enter a context on rank 0 alone; every rank must call, and sees its CodelmError or OSError."""
    with ExitStack() as stack:
        on_rank_zero(lambda: stack.enter_context(context))
        yield
