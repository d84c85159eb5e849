"""Bytes behind a URL: http(s) through the standard library, anything else through fsspec; tried again when it fails.

fsspec's own http needs aiohttp; reading a whole file does not.
"""

import contextlib
import errno
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from codelm.errors import CodelmError, DataError, EnvironmentFailure, from_os_error

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 30.0
_HTTP = ("http://", "https://")
_DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "oci": "ocifs"}
_ABSENT, _FORBIDDEN = (404, 410), (401, 403)
# Of the local disk, not of the server: trying again would not help.
_LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Retry:
    """How often a fetch is tried, and how long it waits in between: twice as long each time."""

    attempts: int = 6
    first_wait: float = 0.5
    """Seconds."""
    longest_wait: float = 30.0


class WrongContents(Exception):
    """What arrived is cut short, or has another hash; its text says which."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL, such as `s3://bucket/data`, rather than a folder of this machine."""
    return "://" in path


def fetch(url: str, parse: Callable[[bytes], Result], retry: Retry) -> Result:
    """What `parse` makes of all bytes of a small file; the file is also fetched again when that is a DataError.

    Raises:
        DataError, EnvironmentFailure: as `retried`, or the last that `parse` raised.
    """

    def read() -> Result:
        with open_url(url) as stream:
            content = stream.read()
        try:
            return parse(content)
        except DataError as error:
            raise WrongContents from error

    return retried(read, url, retry)


def retried(action: Callable[[], Result], url: str, retry: Retry) -> Result:
    """What `action`, a fetch of the URL, returns; tried again after a wait when it fails.

    Raises:
        DataError: the file is absent, access is refused, or it arrived wrong every time.
        EnvironmentFailure: the server could not be reached, a package is missing, or the local disk is full.
    """
    wait = retry.first_wait
    for attempt in range(1, retry.attempts + 1):
        try:
            return action()
        except CodelmError:
            raise
        except Exception as error:  # every file system has kinds of its own
            _raise_if_final(error, url)
            if attempt == retry.attempts:
                raise _given_up(error, url, attempt) from error
            log.debug("%s: attempt %d of %d: %s", url, attempt, retry.attempts, error)
        time.sleep(wait)
        wait = min(2 * wait, retry.longest_wait)
    raise AssertionError("a fetch is tried at least once")


@contextlib.contextmanager
def open_url(url: str) -> Iterator[IO[bytes]]:
    """The bytes of a file as a stream."""
    if url.startswith(_HTTP):
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            yield response
        return
    with _file_system(url).open(url, "rb") as stream:
        yield stream


def _file_system(url: str) -> Any:
    import fsspec  # only remote corpora need it

    try:
        return fsspec.url_to_fs(url)[0]
    except ImportError:
        driver = _DRIVERS.get(url.split("://")[0], "the fsspec driver of that protocol")
        raise EnvironmentFailure(f"{url} needs {driver}, which is not installed; pip install {driver}") from None
    except ValueError as error:
        raise DataError(f"{url} cannot be opened ({error}); use a folder, s3://, gs:// or https://") from None


def _raise_if_final(error: Exception, url: str) -> None:
    """Raise what no further attempt would change."""
    status = getattr(error, "code", None) if isinstance(error, urllib.error.HTTPError) else None
    if status in _FORBIDDEN or (isinstance(error, PermissionError) and not error.filename):
        raise DataError(f"access to {url} is refused ({_brief(error)}); check the credentials and the path") from None
    if status in _ABSENT or isinstance(error, FileNotFoundError):
        raise DataError(f"there is no {url}; correct the path, or upload the folder again") from None
    if isinstance(error, OSError) and (error.errno in _LOCAL or isinstance(error, PermissionError)):
        raise from_os_error(error) from error


def _given_up(error: Exception, url: str, attempts: int) -> CodelmError:
    if isinstance(error, WrongContents):
        if isinstance(error.__cause__, DataError):
            return error.__cause__
        return DataError(f"{url} {error}, in each of {attempts} attempts; upload it again")
    return EnvironmentFailure(
        f"{url} could not be fetched in {attempts} attempts ({_brief(error)}); run the same command again when it is"
        " within reach"
    )


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
