"""Ctrl-C and SIGTERM end a recipe, wherever in Python they find it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from codelm.console import say_at_once

BY_CTRL_C = 128 + signal.SIGINT
BY_SIGTERM = 128 + signal.SIGTERM
_SENT_AGAIN_AFTER = 0.05  # seconds
_heard: list[int] = []


def end_in_order_on_sigterm() -> None:
    """From now on SIGTERM (a scheduler's, `timeout`'s) ends the process as Ctrl-C does: one word, exit code 143."""

    def end(number: int, _: object) -> NoReturn:
        if number not in _heard:
            say_at_once("\nterminated\n")
        _heard.append(number)
        sys.exit(BY_SIGTERM)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def noting_ctrl_c() -> Iterator[None]:
    """Remember a Ctrl-C besides raising it: C code that imports something makes an ImportError of what is raised."""
    _heard.clear()
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _noted)
    try:
        yield
    finally:
        if ours and signal.getsignal(signal.SIGINT) is _noted:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _noted(number: int, frame: FrameType | None) -> NoReturn:
    _heard.append(number)
    signal.default_int_handler(number, frame)


def heard() -> int | None:
    """The exit code of the signal that was heard last, whatever became of what it raised."""
    return 128 + _heard[-1] if _heard else None


def leave_undisturbed(code: int) -> None:
    """What a signal raised has ended the recipe: another would only break off what is done at exit, in a traceback.

    Not sooner, or a signal that is sent again because it was lost would end nothing. SIGTERM says what is known
    (`timeout` sends it twice, launchers once more); Ctrl-C is from a person who does not want to wait, and ends the
    process at once.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))


@contextmanager
def no_interruption_lost() -> Iterator[None]:
    """Send a signal again whose exception Python had to drop.

    What is raised in a finaliser or in the callback of a weak reference, as the import system has for each module,
    has nowhere to go: Python prints "Exception ignored in", and the program runs on.
    """
    before = sys.unraisablehook

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        number = _signal_behind(dropped.exc_value)
        if number is None:
            before(dropped)
            return
        # Later and from outside, or its handler would raise in here, to be dropped once more.
        again = threading.Timer(_SENT_AGAIN_AFTER, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _signal_behind(error: BaseException | None) -> signal.Signals | None:
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit) and error.code == BY_SIGTERM:
        return signal.SIGTERM
    return None
