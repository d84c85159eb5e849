"""A dataset of the Hugging Face hub with a folder of Parquet files for each language, such as The Stack, as rows.

The files are opened through fsspec, not through the package `datasets`: a part is some row groups of a file, so a run
that was killed goes on in the midst of a file and many processes share one, only the columns in use are fetched, and
huggingface_hub is installed anyway.
"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from codelm.config.data import HubSource, RecordsSource
from codelm.data.documents import Counts, FileEntry, Repository
from codelm.data.sources.parquet import ENDINGS
from codelm.data.sources.reading_errors import explained
from codelm.data.sources.records import list_parts
from codelm.data.sources.remote_files import FoundFile, is_remote, list_below
from codelm.errors import DataError
from codelm.languages import LANGUAGES

logger = logging.getLogger(__name__)

_FOOTERS_AT_ONCE = 16


def list_hub(
    key: str, source: HubSource, languages: list[str] | None, counts: Counts
) -> Iterator[tuple[Repository, FileEntry]]:
    """The parts of the chosen languages' files (None: of all 20), language by language in the order of LANGUAGES.

    A language that the dataset has no files of is left out, with a warning.

    Raises:
        DataError: when the dataset is absent, gated or out of reach, or has none of the languages.
    """
    root = _root(source)
    chosen = [language for language in LANGUAGES if languages is None or language in languages]
    without = []
    for language in chosen:
        folder = f"{root}/{source.data_dir.replace('{language}', LANGUAGES[language].stack_name)}"
        files = list_below(folder, ENDINGS, counts)
        if not files:
            without.append(language)
        rows = RecordsSource(name="records", files=[folder], columns=source.columns, language=language)
        repository = Repository(key, root, None, None, rows)
        for part in _parts(files, source, f"sources.{key}"):
            yield repository, part
    if len(without) == len(chosen):
        folder = source.data_dir.replace("{language}", LANGUAGES[chosen[0]].stack_name)
        raise DataError(
            f"sources.{key}: {source.hf_name} has no Parquet files in {folder}, nor of another language;"
            " check hf_name and data_dir"
        )
    if without:
        logger.warning("%s has no files of %s", source.hf_name, ", ".join(without))


def _root(source: HubSource) -> str:
    """The local folder, or the dataset's URL at one commit: a branch could move before the last file is read.

    Raises:
        DataError: when the hub has no such dataset or revision, or is out of reach.
    """
    local = os.path.abspath(os.path.expanduser(source.hf_name))
    if os.path.isdir(local):
        return local
    if source.hf_name.startswith((".", "/", "~")) or source.hf_name.count("/") > 1:
        raise DataError(f"there is no folder {source.hf_name}; give hf_name a dataset's id, or a folder with its files")
    import huggingface_hub

    url = f"hf://datasets/{source.hf_name}"
    with explained(url):
        commit = huggingface_hub.HfApi().dataset_info(source.hf_name, revision=source.revision).sha
    return f"{url}@{commit}"


def _parts(files: list[FoundFile], source: HubSource, where: str) -> Iterator[FileEntry]:
    """The parts of a language's files, down to its first `limit_per_language` rows."""
    left = source.limit_per_language
    if left is None:
        # Each file's footer is fetched, which takes a while over a network.
        workers = _FOOTERS_AT_ONCE if files and is_remote(files[0].url) else 1
        listed = partial(list_parts, columns=source.columns, where=where, limit=None)
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(files), _FOOTERS_AT_ONCE):
                for parts, _ in pool.map(listed, files[start : start + _FOOTERS_AT_ONCE]):
                    yield from parts
        return
    for file in files:
        if left == 0:
            return
        parts, rows = list_parts(file, source.columns, where, left)
        left -= rows
        yield from parts
