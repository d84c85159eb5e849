"""What goes wrong while files of rows are read, locally, over a network or on the hub: one sentence for each case.

Every file system and decompressor has its own kinds of errors, so they are told by name, along the chain of causes.
"""

import contextlib
from collections.abc import Iterator

from codelm.errors import DataError, EnvironmentFailure

_HUB = "hf://datasets/"
_UNREACHED = frozenset({"ConnectionError", "ConnectError", "TransportError"})


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn an error while a file is read into one sentence that names it.

    Raises:
        DataError: it is absent, damaged, gated, or out of reach.
    """
    try:
        yield
    except (DataError, EnvironmentFailure, MemoryError):
        raise
    except Exception as error:
        raise DataError(_sentence(url, error)) from error


def _sentence(url: str, error: Exception) -> str:
    causes = [error, *_causes(error)]
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    on_hub = _hub_sentence(url, causes, names) if url.startswith(_HUB) else None
    if on_hub is not None:
        return on_hub
    if names & _UNREACHED:
        return f"{url} is out of reach ({_first_line(causes[-1])}); run it again when the network is there"
    if isinstance(error, FileNotFoundError):
        return f"there is no file {url}"
    reason = _first_line(error)
    return f"{url} cannot be read ({reason}); if it is damaged or incomplete, fetch it again or leave it out"


def _hub_sentence(url: str, causes: list[BaseException], names: set[str]) -> str | None:
    dataset = url.removeprefix(_HUB).split("@")[0]
    if "OfflineModeIsEnabled" in names:
        return (
            f"{dataset} is on the Hugging Face hub, which HF_HUB_OFFLINE forbids to reach;"
            " unset it, or give hf_name a local folder with the same files"
        )
    if "GatedRepoError" in names:
        return (
            f"{dataset} is gated on the Hugging Face hub: accept its conditions on its page, and log in with"
            " `hf auth login` or set HF_TOKEN"
        )
    if "RepositoryNotFoundError" in names or {_status(cause) for cause in causes} & {401, 403}:
        return f"the Hugging Face hub has no dataset {dataset}, or it is private; check hf_name, and HF_TOKEN"
    if "RevisionNotFoundError" in names:
        return f"{dataset} on the Hugging Face hub has no such `revision`; name a branch, a tag or a commit of it"
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """What an error arose from, the nearest first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [cause, *_causes(cause)] if cause is not None else []


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
