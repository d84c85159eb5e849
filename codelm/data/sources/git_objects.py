"""Read a git repository through git itself: the files of a commit and their contents, never the working tree.

So `.gitignore`, history and bare repositories are respected, and no file of the repository is executed.
"""

import contextlib
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
        raise _damaged(repository, commit)


def has_commit(repository: str, commit: str) -> bool:
    """Whether the repository holds the commit with this id."""
    return _run(_git(repository, "cat-file", "-e", f"{commit}^{{commit}}")).returncode == 0


def _damaged(repository: str, commit: str, what: str = "") -> DataError:
    if _run(_git(repository, "config", "--get-regexp", r"^remote\..*\.promisor$")).stdout:
        return DataError(
            f"git cannot read {what}commit {commit} of {repository}: it is a partial clone, and nothing is fetched;"
            " clone it again without --filter"
        )
    return DataError(
        f"git cannot read {what}commit {commit} of {repository}: it is damaged or incomplete;"
        " repair it with `git fsck`, or leave it out"
    )


def untracked(repository: str) -> list[str]:
    """The files of the working tree that are neither in the index nor ignored; none where git cannot tell."""
    # The repository's own setting could name a program.
    command = _git(repository, "-c", "core.fsmonitor=false", "ls-files", "--others", "--exclude-standard", "-z")
    return [os.fsdecode(path) for path in _run(command).stdout.split(b"\0") if path]


def is_shallow(repository: str) -> bool:
    """Whether the repository is a clone whose history was cut (`git clone --depth`)."""
    return _run(_git(repository, "rev-parse", "--is-shallow-repository")).stdout.strip() == b"true"


def change_times(repository: str, commit: str) -> dict[str, int]:
    """When each file of a commit last changed, in seconds since 1970: the committer's time of the last commit that did.

    The history is that of first parents, so a merge dates what it brings: the file was not there before. Every file of
    the commit is found (the walk ends at a commit that adds all it holds); files that are no longer there may be too.
    The history of a shallow clone begins where it was cut.

    Raises:
        DataError: when git cannot read the history.
    """
    # Whatever a user's settings say: no signature is checked (a program would run), every commit's files are shown.
    command = _git(
        repository,
        *(
            "-c",
            "log.showRoot=true",
            "-c",
            "diff.orderFile=/dev/null",
            "log",
            "-z",
            "--raw",
            "--no-abbrev",
            "--format=%ct",
        ),
        *("--first-parent", "--diff-merges=first-parent", "--no-renames", "--no-relative", "--no-show-signature"),
        *("--no-notes", "--no-color", "--no-decorate", "--no-ext-diff", "--no-mailmap", "--end-of-options", commit),
    )
    times: dict[str, int] = {}
    with _start(command, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        time, is_path = 0, False
        for token in _split_at_nul(process.stdout):
            if is_path:
                times.setdefault(os.fsdecode(token), time)
                is_path = False
            else:
                # A commit's time, or the description of a change, which its path follows.
                token = token.strip()
                is_path = token.startswith(b":")
                time = int(token) if token and not is_path else time
    if process.returncode != 0:
        raise _damaged(repository, commit, "the history of ")
    return times


class BlobReader:
    """Contents by object id, through one `git cat-file --batch` process."""

    def __init__(self, repository: str) -> None:
        self._command = _git(repository, "cat-file", "--batch")
        self._process = _start(self._command, stdin=subprocess.PIPE)

    def read(self, object_id: str) -> bytes | None:
        """The object's bytes, or None when the repository does not hold it (a partial clone), or it is damaged."""
        contents, alive = self._ask(object_id)
        if not alive:
            # Git gives up at a damaged object; the ones after it may be whole.
            self.close()
            self._process = _start(self._command, stdin=subprocess.PIPE)
        return contents

    def _ask(self, object_id: str) -> tuple[bytes | None, bool]:
        """The contents, and whether git still listens."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{object_id}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return None, False
        header = self._process.stdout.readline().split()
        if len(header) != 3:
            return None, bool(header)
        size = int(header[2])
        contents = self._process.stdout.read(size + 1)
        return (contents[:-1], True) if len(contents) == size + 1 else (None, False)

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _git(repository: str, *arguments: str) -> list[str]:
    # Reading another user's repository is safe here: no hook and no configured program is started by these commands.
    return ["git", "-c", "safe.directory=*", "-C", repository, *arguments]


def _environment(command: list[str]) -> dict[str, str]:
    # A surrounding hook's GIT_DIR would redirect git; lazy fetching would reach for the network in a partial clone;
    # without a ceiling, a repository around a broken one would be read in its place.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    ceiling = os.path.dirname(os.path.realpath(command[command.index("-C") + 1]))
    return {
        **kept,
        "GIT_CEILING_DIRECTORIES": ceiling,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


def _start(command: list[str], stdin: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(command)
        )
    except FileNotFoundError:
        raise _no_git() from None


def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, capture_output=True, env=_environment(command), check=False)
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
