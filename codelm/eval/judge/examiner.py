"""The tests' side: runs the benchmark's trusted tests against a proxy of the program's function.

It runs in a process of its own, bounded by time and memory, since the values that the tests handle come from the
program. The program's process may say anything; only values that satisfy the tests make a pass.
"""

import builtins
import random
import secrets
import socket
from typing import Any

from codelm.eval.judge import wire
from codelm.eval.judge.candidate import CONFINED


class _Unanswered(BaseException):
    """The program did not answer; no test may swallow it."""


class _CandidateError(Exception):
    """What the program raised, when it is no built-in exception."""


def examine(connection: socket.socket, job: dict[str, Any]) -> dict[str, str]:
    """Judge one program.

    Returns:
        `outcome`: `passed`, `failed`, `exit` (it asked to exit), `memory`, `gone` (its process ended) or `unconfined`
        (the program was then never sent), and `detail`, one line.
    """
    examination = _Examination(connection)
    try:
        detail = examination.run(job)
    except _Unanswered as reason:
        return examination.outcome or {"outcome": "failed", "detail": str(reason)}
    except BaseException as error:
        # What the proxy saw comes first: a test may have swallowed it and stumbled over the consequences.
        return examination.outcome or {"outcome": "failed", "detail": _describe(error)}
    return examination.outcome or {"outcome": "passed", "detail": detail}


class _Examination:
    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.outcome: dict[str, str] | None = None
        self.calls = 0

    def run(self, job: dict[str, Any]) -> str:
        self.await_confinement()
        self.ask({"program": job["program"], "entry_point": job["entry_point"]})
        if job["judge"] == "in_process":
            return self.run_beside(job)
        random.seed(0)
        namespace: dict[str, Any] = {"__name__": "tests"}
        exec(compile(job["prelude"], "prelude.py", "exec", dont_inherit=True), namespace)
        # Some tests call the function by its own name as well.
        namespace[job["entry_point"]] = self.proxy
        exec(compile(job["test"], "test.py", "exec", dont_inherit=True), namespace)
        namespace["check"](self.proxy)
        if not self.calls:
            raise AssertionError("the tests never called the function")
        return f"{self.calls} calls"

    def run_beside(self, job: dict[str, Any]) -> str:
        """Have the tests run in the program's own process; only their end knows the nonce's place."""
        nonce = secrets.token_hex(16)
        self.calls = 1  # what the program raises from now on is a test's failure
        if self.ask({"test": job["test"], "nonce": nonce}) != nonce:
            raise AssertionError("the tests did not finish")
        return "the tests finished beside the program"

    def await_confinement(self) -> None:
        try:
            confined = wire.receive(self.connection) == {"value": CONFINED}
        except (wire.Closed, wire.BadFrame):
            confined = False
        if not confined:
            self.give_up("unconfined", "its process could not be confined")

    def proxy(self, *arguments: Any, **keywords: Any) -> Any:
        self.calls += 1
        return self.ask({"arguments": wire.encode(list(arguments)), "keywords": wire.encode(keywords)})

    def ask(self, message: dict[str, Any]) -> Any:
        if self.outcome is not None:
            raise _Unanswered
        try:
            wire.send(self.connection, message)
            answer = wire.receive(self.connection)
            if "value" in answer:
                return wire.decode(answer["value"])
        except wire.Closed:
            self.give_up("gone", "its process ended before it answered")
        except wire.BadFrame as error:
            self.give_up("failed", f"its process sent {error}")
        if "exit" in answer:
            self.give_up("exit", f"it asked to exit ({answer['exit']})")
        if "refused" in answer:
            self.give_up("failed", str(answer["refused"])[:300])
        text = str(answer.get("message"))[:400]
        if answer.get("error") == "MemoryError":
            self.give_up("memory", text)
        if not self.calls:
            self.give_up("failed", text)
        raise _exception(answer.get("error"), text)

    def give_up(self, outcome: str, detail: str) -> None:
        self.outcome = {"outcome": outcome, "detail": detail}
        raise _Unanswered


def _exception(name: Any, text: str) -> Exception:
    kind = getattr(builtins, name, None) if isinstance(name, str) else None
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:  # UnicodeDecodeError and the like want more
            pass
    return _CandidateError(text)


def _describe(error: BaseException) -> str:
    name, text = type(error).__name__, str(error)
    if not text:
        return name
    return text[:400] if text.startswith(name) else f"{name}: {text}"[:400]
