"""Read a git repository through git itself: the files of a commit and their contents, never the working tree.

So `.gitignore`, history and bare repositories are respected, and no file of the repository is executed.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from codelm.data.documents import FileEntry
from codelm.errors import DataError, EnvironmentFailure

SYMLINK, SUBMODULE, LOST = "120000", "160000", "lost"


@dataclass(frozen=True)
class TreeEntry:
    """One line of a commit's tree: `mode` is git's, such as 100644, SYMLINK or SUBMODULE, or LOST without contents."""

    mode: str
    file: FileEntry


def is_repository(folder: str | Path) -> bool:
    """Whether the folder itself is a git repository, bare or checked out (a folder within one is not)."""
    folder = Path(folder)
    bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
    return bare or (folder / ".git").exists()


def resolve_commit(repository: str, revision: str) -> str:
    """The full id of a commit, branch or tag.

    Raises:
        DataError: when the repository has no such commit.
    """
    command = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    result = _run(command)
    if result.returncode != 0:
        reason = _reason(result.stderr)
        raise DataError(
            f"the git repository {repository} has no commit `{revision}`{reason};"
            " fetch it, or name another with `commit`"
        )
    return result.stdout.decode().strip()


def list_tree(repository: str, commit: str) -> Iterator[TreeEntry]:
    """Every entry of a commit, in git's order.

    Raises:
        DataError: when git cannot read the commit's tree.
    """
    command = _git(repository, "ls-tree", "-r", "-z", "-l", "--full-tree", commit)
    with _start(command, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for record in _split_at_nul(process.stdout):
            description, _, path = record.partition(b"\t")
            mode, _, object_id, size = description.decode().split()
            # Git writes "-" for the size of a submodule, "BAD" for contents that it does not hold.
            mode = LOST if size == "BAD" else mode
            yield TreeEntry(mode, FileEntry(os.fsdecode(path), int(size) if size.isdigit() else 0, object_id))
    if process.returncode != 0:
        raise DataError(
            f"git cannot read commit {commit} of {repository}: it is damaged or incomplete;"
            " repair it with `git fsck`, or leave it out"
        )


class BlobReader:
    """Contents by object id, through one `git cat-file --batch` process."""

    def __init__(self, repository: str) -> None:
        self._process = _start(_git(repository, "cat-file", "--batch"), stdin=subprocess.PIPE)

    def read(self, object_id: str) -> bytes | None:
        """The object's bytes, or None when the repository does not hold it (a partial clone, damage)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{object_id}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        header = self._process.stdout.readline().split()
        if len(header) != 3:
            return None
        contents = self._process.stdout.read(int(header[2]) + 1)
        return contents[:-1] if len(contents) == int(header[2]) + 1 else None

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _git(repository: str, *arguments: str) -> list[str]:
    # Reading another user's repository is safe here: no hook and no configured program is started by these commands.
    return ["git", "-c", "safe.directory=*", "-C", repository, *arguments]


def _environment() -> dict[str, str]:
    # A surrounding hook's GIT_DIR would redirect git; lazy fetching would reach for the network in a partial clone.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return {**kept, "GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def _start(command: list[str], stdin: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
        )
    except FileNotFoundError:
        raise _no_git() from None


def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, capture_output=True, env=_environment(), check=False)
    except FileNotFoundError:
        raise _no_git() from None


def _no_git() -> EnvironmentFailure:
    return EnvironmentFailure("reading git repositories needs the program `git`, which is not installed")


def _reason(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f" ({lines[-1].removeprefix('fatal: ')})" if lines else ""


def _split_at_nul(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(1 << 16):
        *records, rest = (rest + block).split(b"\0")
        yield from records
