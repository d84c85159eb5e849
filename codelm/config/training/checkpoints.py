"""Which checkpoints of a run stay, and where else they go."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from codelm.config.fields import Section

KEEP_ALL = -1
_SCHEME = "://"


def _some_or_all(number: int) -> int:
    if number < 1 and number != -1:
        raise ValueError(f"{number} keeps nothing to go on from; write 1 or more, or -1 for all")
    return number


NumberToKeep = Annotated[int, Field(ge=-1), AfterValidator(_some_or_all)]
"""The newest so many; -1 keeps all."""


PositiveSeconds = Annotated[float, Field(gt=0)]


class SaveBestSection(Section):
    """Save a checkpoint whenever a metric is better than ever, and keep the best; `save_folder/best` points to it."""

    metric: Annotated[str, Field(min_length=1)]
    """A name from metrics.jsonl, such as `metrics/python/BitsPerByte`; not of code evaluation, which comes too late."""
    mode: Literal["min", "max"] = "min"
    """Whether less or more is better."""


def _has_scheme(url: str) -> str:
    if _SCHEME not in url or url.startswith(_SCHEME):
        raise ValueError(f"`{url}` is no URL; write s3://bucket/folder, gs://…, or file:///folder")
    if "{" in url or "}" in url:
        raise ValueError(f"`{url}` has braces; write ${{run_name}} for the run's name")
    return url.rstrip("/")


RemoteFolder = Annotated[str, AfterValidator(_has_scheme)]
"""A folder that fsspec opens by its URL."""
