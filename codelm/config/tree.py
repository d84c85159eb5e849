"""A tree of values in which every key knows where it was written, and the problems found in it."""

from dataclasses import dataclass
from typing import Any

KeyPath = tuple[str | int, ...]
COMMAND_LINE = 1_000_000
"""Rank of the command line among the files, so that its problems are listed last."""


@dataclass(frozen=True)
class Place:
    """Where something was written; `rank` orders places: (file or COMMAND_LINE, line or argument, column)."""

    text: str
    rank: tuple[int, int, int]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Problem:
    """One line of a `ConfigError`."""

    place: Place
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.text}" if self.key else f"{self.place}: {self.text}"


@dataclass(frozen=True)
class Node:
    """A value and where its key stands; `value` is a scalar, a dict of nodes or a list of nodes.

    `note` says why keys may be missing from a section that replaced another; `unreadable` values (null here) have
    been reported already; `left_empty` is the null of a key with nothing behind it.
    """

    value: object
    place: Place
    note: str = ""
    unreadable: bool = False
    left_empty: bool = False

    @property
    def entries(self) -> "dict[str, Node] | None":
        """The nodes by key when this is a mapping, else None."""
        return self.value if isinstance(self.value, dict) else None


def plain(node: Node) -> object:
    """The values without their places."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def find(node: Node, path: KeyPath) -> Node | None:
    """The node at `path`, or None."""
    for part in path:
        children: Any = node.value
        if isinstance(children, list):
            children = dict(enumerate(children))
        if not isinstance(children, dict) or part not in children:
            return None
        node = children[part]
    return node


def place_of(node: Node, path: KeyPath) -> Place:
    """Where `path` was written, or the nearest section above it."""
    for length in range(len(path), -1, -1):
        if (found := find(node, path[:length])) is not None:
            return found.place
    return node.place


def dotted(path: KeyPath) -> str:
    """`optimizer.betas[0]` from ("optimizer", "betas", 0)."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
