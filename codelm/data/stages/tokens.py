"""Documents to token ids: the tokenizer, trained on the corpus or given, and every partition encoded with it."""

import logging
from collections.abc import Iterable

import numpy as np

from codelm.config.data import DataConfig
from codelm.data.engines.local import Engine, whole_folder
from codelm.data.packing.tokenise import TokeniseTask, tokenise_partition
from codelm.data.select import LEFT_OUT, Selection
from codelm.data.stages.places import documents_folder, tokens_folder
from codelm.data.stages.progress import TOKENISING, TRAINING, Progress
from codelm.data.store import read_texts
from codelm.data.workspace import Workspace
from codelm.errors import TokenizerError
from codelm.tokenizer import Tokenizer, load_tokenizer
from codelm.tokenizer_training import train_tokenizer

logger = logging.getLogger(__name__)


def tokenizer_stage(
    space: Workspace, config: DataConfig, given: Tokenizer | None, selection: Selection, progress: Progress
) -> Tokenizer:
    """The tokenizer beside the shards: trained on the training split, or a copy of the given one."""
    settings = config.tokenizer.train
    if not space.tokenizer.exists():
        with whole_folder(space.tokenizer, space.scratch) as folder:
            if given is not None:
                given.save(folder)
            elif settings is not None:
                total = int(selection.bytes[selection.for_tokenizer].sum())
                progress(TRAINING, 0, total)
                texts = _tokenizer_texts(space, selection)
                train_tokenizer(texts, settings.vocab_size, folder, settings.max_sentence_length)
                progress(TRAINING, total, total)
    tokenizer = load_tokenizer(space.tokenizer)
    if given is not None and not tokenizer.fingerprint().matches(given.fingerprint()):
        raise TokenizerError(
            f"the tokenizer at {config.tokenizer.path} changed since {space.output} was begun"
            f" ({given.fingerprint().difference(tokenizer.fingerprint())}); restore it, or delete the output folder"
        )
    if not tokenizer.lossless:
        logger.warning("the tokenizer at %s does not bring every text back exactly", config.tokenizer.path)
    return tokenizer


def _tokenizer_texts(space: Workspace, selection: Selection) -> Iterable[str]:
    for index in range(selection.partitions):
        wanted = selection.for_tokenizer[selection.of_partition(index)].tolist()
        yield from (text for _, text in read_texts(documents_folder(space, index), wanted))


def tokenise_stage(
    space: Workspace, config: DataConfig, selection: Selection, engine: Engine, progress: Progress
) -> None:
    """Write the token ids of every partition's selected documents."""
    tasks = [
        TokeniseTask(
            documents=documents_folder(space, index),
            output=tokens_folder(space, index),
            tokenizer=space.tokenizer,
            scratch=space.scratch,
            split=np.array(selection.split[selection.of_partition(index)]),
            context=config.context,
            seed=config.seed,
        )
        for index in range(selection.partitions)
    ]
    kept = selection.split != LEFT_OUT
    total, done = int(selection.bytes[kept].sum()), 0
    progress(TOKENISING, done, total)
    for index in engine.each(tokenise_partition, tasks):
        part = selection.of_partition(index)
        done += int(selection.bytes[part][kept[part]].sum())
        progress(TOKENISING, done, total)
