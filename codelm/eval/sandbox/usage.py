"""What a program takes while it runs, all its processes together: seen from outside, since rlimits bound each alone."""

import contextlib
import os
import stat

from codelm.eval.sandbox.burial import descendants

_MOST_FILES = 10_000
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
_SHARED_OUT = ("Pss:", "SwapPss:")
_NOT_OF_FILES = ("RssAnon:", "RssShmem:", "VmSwap:")


def processes_below(pid: int, enough: int) -> tuple[float, int]:
    """What all descendants of a process take.

    Args:
        enough: bytes of memory up to which a page counts for each process that has it, which is quick to tell. Above,
            it is divided among them, or a program that forks would pay for its memory twice.

    Returns:
        CPU seconds, with those of children that were waited for, and bytes of memory.
    """
    ticks = pages = 0
    processes = descendants(pid)
    for process in processes:
        try:
            with open(f"/proc/{process}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
        pages += int(fields[21])
    memory = pages * _PAGE
    return ticks / _TICKS, sum(map(_memory, processes)) if memory > enough else memory


def _memory(process: int) -> int:
    """Bytes, each page divided among those that share it; all that is not of files where that may not be read."""
    for name, wanted in (("smaps_rollup", _SHARED_OUT), ("status", _NOT_OF_FILES)):
        try:
            with open(f"/proc/{process}/{name}") as file:
                return sum(int(line.split()[1]) << 10 for line in file if line.startswith(wanted))
        except OSError:  # of another user, and we are a root without CAP_SYS_PTRACE; or it is gone
            continue
    return 0


def bytes_below(folder: str, enough: int, most_files: int = _MOST_FILES) -> int:
    """Bytes on disk of all files below a folder; no more are counted once there are `enough`, or too many files."""
    total, files, open_folders = 0, 0, [folder]
    while open_folders and total <= enough:
        try:
            entries = list(os.scandir(open_folders.pop()))
        except OSError:
            continue
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                total += status.st_blocks * 512
                files += 1
                if stat.S_ISDIR(status.st_mode):
                    open_folders.append(entry.path)
        if files > most_files:
            return enough + 1
    return total
