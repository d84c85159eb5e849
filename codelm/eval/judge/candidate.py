"""The untrusted program's side: runs it in its own process and answers calls with literals.

It runs after `confine`, in a process that has never held a test. The program can reach everything in here; all that
it gains is to answer in its own words, and answers are compared elsewhere.
"""

import builtins
import contextlib
import os
import random
import socket
import sys
import types
from typing import Any

from codelm.eval.judge import wire

MODULE = "solution"
CONFINED = "confined"
"""The first thing said, before the program is even sent."""


def serve(connection: socket.socket) -> None:
    """Receive the program, run it, answer calls until the other side is gone; never returns to the caller's code."""
    with contextlib.suppress(wire.Closed, wire.BadFrame):
        wire.send(connection, {"value": CONFINED})
        request = wire.receive(connection)
        random.seed(0)
        module = types.ModuleType(MODULE)
        sys.modules[MODULE] = module
        _reply(connection, _attempt(lambda: _load(module, request["program"], request["entry_point"])))
        while True:
            call = wire.receive(connection)
            act = _test if "test" in call else _call
            _reply(connection, _attempt(lambda act=act, call=call: act(module, request["entry_point"], call)))
    os._exit(0)


def _reply(connection: socket.socket, answer: dict[str, Any]) -> None:
    try:
        wire.send(connection, answer)
    except wire.NotLiteral as error:
        wire.send(connection, {"refused": f"answered with {error}"})


def _load(module: types.ModuleType, program: str, entry_point: str) -> None:
    exec(compile(program, f"{MODULE}.py", "exec", dont_inherit=True), module.__dict__)
    if not callable(module.__dict__.get(entry_point)):
        raise NameError(f"the program defines no function {entry_point}")


def _call(module: types.ModuleType, entry_point: str, call: dict[str, Any]) -> Any:
    arguments = wire.decode(call["arguments"])
    keywords = wire.decode(call["keywords"])
    return module.__dict__[entry_point](*arguments, **keywords)


def _test(module: types.ModuleType, entry_point: str, call: dict[str, Any]) -> str:
    """Run the tests among the program's names; the nonce is the word that all of them held."""
    namespace = dict(module.__dict__)
    exec(compile(call["test"], "test.py", "exec", dont_inherit=True), namespace)
    namespace["check"](namespace[entry_point])
    return call["nonce"]


def _attempt(action: Any) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = {"value": wire.encode(action())}
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        return {"exit": type(error).__name__}
    except wire.NotLiteral as error:
        return {"refused": f"answered with {error}"}
    except BaseException as error:
        return {"error": _builtin_name(type(error)), "message": _describe(error)}
    return answer


def _builtin_name(kind: type[BaseException]) -> str:
    for ancestor in kind.__mro__:
        if getattr(builtins, ancestor.__name__, None) is ancestor:
            return ancestor.__name__
    return "Exception"


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300].removesuffix(": ")
    except BaseException:
        return "an exception that cannot be shown"
