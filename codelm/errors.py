"""The user-facing errors of codelm: each says what is wrong, where, and how to fix it.

Recipes wrap their `main` in `exit_on_error`, so that a user sees one sentence and a meaningful exit code
instead of a traceback: 2 for bad input (configuration, data, checkpoint), 1 for a failure of the environment.
"""

import errno
import functools
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from codelm.console import is_rank_zero, prepare_streams, silence_stdout
from codelm.interruption import BY_CTRL_C, BY_SIGTERM, heard, leave_undisturbed, no_interruption_lost, noting_ctrl_c


class CodelmError(Exception):
    """A problem the user can fix; its text is one clear sentence that names the thing and the remedy."""

    exit_code = 2


class ConfigError(CodelmError):
    """The run's YAML or command line is wrong; the text holds one line for each problem."""


class DataError(CodelmError):
    """The corpus, the shards or their manifest cannot be used as asked."""


class TokenizerError(CodelmError):
    """The tokenizer cannot be loaded, or is not the one that the shards or the checkpoint were made with."""


class CheckpointError(CodelmError):
    """The checkpoint cannot be used: absent, torn, or of another architecture."""


class EvaluationError(CodelmError):
    """The evaluation cannot be carried out as asked."""


class EnvironmentFailure(CodelmError):
    """The machine failed, not the input: a full disk, a missing toolchain, no permission."""

    exit_code = 1


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_RANK_ZERO_SPEAKS_WITHIN = 5.0  # seconds


def from_os_error(error: OSError) -> EnvironmentFailure:
    """The environment's failure behind an `OSError`, in one sentence."""
    where = f" while writing {error.filename}" if error.filename else ""
    if error.errno in _DISK_FULL:
        return EnvironmentFailure(f"the disk is full{where}; free some space and run the same command again")
    return EnvironmentFailure(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")


def exit_on_error(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a recipe's `main`: a `CodelmError` or `OSError` becomes one line on stderr and an exit code.

    Under a launcher rank 0 alone says what all ranks found: the launcher ends every rank as soon as one has ended, so
    the others wait for it to speak, and say what is wrong with them alone only when they are still there after that.
    """

    @functools.wraps(main)
    def guarded() -> None:
        try:
            prepare_streams()
            with noting_ctrl_c(), no_interruption_lost():
                main()
        except (CodelmError, ImportError) as error:
            if (code := heard()) is not None:
                _leave_at(code)
            if isinstance(error, ImportError):
                raise
            _fail(error)
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads_stdout():
                # As other programs in a pipe: `… | head` has what it wanted.
                silence_stdout()
                sys.exit(128 + signal.SIGPIPE)
            _fail(from_os_error(error))
        except KeyboardInterrupt:
            _leave_at(BY_CTRL_C)
        except SystemExit as error:
            if error.code in (BY_CTRL_C, BY_SIGTERM):  # Composer's handler exits so
                _leave_at(int(error.code))
            raise

    return guarded


def _leave_at(code: int) -> NoReturn:
    """End as a signal asked; SIGTERM's handler has said its word."""
    leave_undisturbed(code)
    if code == BY_CTRL_C and is_rank_zero():
        print("\ninterrupted", file=sys.stderr, flush=True)
    sys.exit(code)


def _nobody_reads_stdout() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _fail(error: CodelmError) -> None:
    if not is_rank_zero():
        time.sleep(_RANK_ZERO_SPEAKS_WITHIN)
    # A configuration's lines begin with file:line:col, which editors and terminals make clickable.
    prefix = "" if isinstance(error, ConfigError) else "error: "
    print(f"{prefix}{error}", file=sys.stderr, flush=True)
    sys.exit(error.exit_code)
