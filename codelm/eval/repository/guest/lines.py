"""Which lines of a folder's files run, test by test: by `sys.monitoring` where there is one, else by a trace function.

Both forget a line as soon as it has run once in a test, so a loop costs what its first round costs.
"""

import os
import sys
import threading
from types import CodeType, FrameType
from typing import Any, Protocol

Lines = dict[str, list[int]]


class Tracer(Protocol):
    """Watches between `start` and `stop`."""

    def start(self) -> None:
        """Forget what ran before."""
        ...

    def stop(self) -> Lines:
        """The lines that ran, by the file's path below the folder."""
        ...


def tracer_of(folder: str) -> Tracer:
    """The cheapest tracer that this interpreter has, for files below a folder."""
    if sys.version_info >= (3, 12):
        free = [tool for tool in range(6) if sys.monitoring.get_tool(tool) is None]
        if free:
            return _Monitoring(folder, free[-1])
    return _Tracing(folder)


def _sorted(folder: str, found: dict[str, set[int]]) -> Lines:
    return {os.path.relpath(path, folder): sorted(lines) for path, lines in found.items() if lines}


class _Monitoring:
    def __init__(self, folder: str, tool: int):
        self.folder, self.prefix, self.tool = folder, folder + os.sep, tool
        self.found: dict[str, set[int]] = {}
        monitoring: Any = sys.monitoring  # pyright: ignore[reportAttributeAccessIssue]
        self.monitoring = monitoring
        monitoring.use_tool_id(tool, "codelm")
        monitoring.register_callback(tool, monitoring.events.LINE, self._line)

    def start(self) -> None:
        self.found = {}
        self.monitoring.set_events(self.tool, self.monitoring.events.LINE)
        self.monitoring.restart_events()

    def stop(self) -> Lines:
        self.monitoring.set_events(self.tool, 0)
        return _sorted(self.folder, self.found)

    def _line(self, code: CodeType, line: int) -> Any:
        path = code.co_filename
        if path.startswith(self.prefix):
            self.found.setdefault(path, set()).add(line)
        return self.monitoring.DISABLE


class _Tracing:
    def __init__(self, folder: str):
        self.folder, self.prefix = folder, folder + os.sep
        self.all: dict[CodeType, frozenset[int]] = {}
        self.left: dict[CodeType, set[int]] = {}

    def start(self) -> None:
        self.left = {}
        threading.settrace(self._call)
        sys.settrace(self._call)

    def stop(self) -> Lines:
        sys.settrace(None)
        threading.settrace(None)  # pyright: ignore[reportArgumentType]
        found: dict[str, set[int]] = {}
        for code, left in self.left.items():
            found.setdefault(code.co_filename, set()).update(self.all[code] - left)
        return _sorted(self.folder, found)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        left = self.left.get(code)
        if left is None:
            if code not in self.all:
                inside = code.co_filename.startswith(self.prefix)
                lines = (line for _, _, line in code.co_lines() if line) if inside else ()
                self.all[code] = frozenset(lines)
            if not self.all[code]:
                return None
            left = self.left[code] = set(self.all[code])

        def line(frame: FrameType, event: str, _argument: Any) -> Any:
            if event == "line":
                left.discard(frame.f_lineno)
                if not left:
                    frame.f_trace_lines = False
            return line

        return line if left else None
