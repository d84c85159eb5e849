"""Files that training has not seen, in any of the 20 languages; nothing is run.

The bits of whole files; exact match, edit similarity and identifier match of lines and blocks; and whether a file
still parses with a completed block in it. From a folder of files, from the shards of a prepared corpus, or from the
held-out files of a repository benchmark.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from codelm.config.evaluation.tasks import HeldOutSection
from codelm.data.manifest import MANIFEST_FILE, load_manifest
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.workspace import TOKENIZER_FOLDER
from codelm.errors import DataError, EvaluationError
from codelm.eval.judge.verdict import COMPARED, PARSER
from codelm.eval.parse_judge import ParseJudge
from codelm.eval.parsing import is_well_formed
from codelm.eval.problem import Benchmark, Problem
from codelm.eval.repository import items, manifest
from codelm.eval.repository.heldout import draw, items_of
from codelm.languages import INSTRUCTIONS, LANGUAGES
from codelm.tokenizer import Tokenizer, load_tokenizer

_SEED = 0
_LEAST_CHARACTERS = 200


@dataclass(frozen=True)
class Document:
    """A whole file, or what a shard holds of one."""

    id: str
    language: str
    text: str


@dataclass(frozen=True)
class Gap:
    """Lines of a file that are to be completed.

    Attributes:
        id: unique among the gaps.
        kind: `line` or `block`.
        language: a key of `codelm.languages.LANGUAGES`.
        prefix, suffix: the file's text before and behind the gap, to the character.
        gold: what stood there, whole lines.
    """

    id: str
    kind: str
    language: str
    prefix: str
    suffix: str
    gold: str


def load(section: HeldOutSection) -> Benchmark:
    """The documents, then the gaps in them, language by language.

    Raises:
        EvaluationError: there is nothing at the path that can be measured, or parsers are asked for that are absent.
    """
    folder = Path(section.path).expanduser()
    where = f"tasks.held_out.path: {folder}"
    if (folder / manifest.BENCHMARK).exists():
        documents, gaps = _of_benchmark(folder)
    elif (folder / MANIFEST_FILE).exists():
        documents = _of_corpus(folder, section)
        gaps = [gap for document in documents for gap in gaps_of(document)]
    elif folder.is_dir():
        paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        held = draw(folder, paths, 1.0, section.files, _SEED)
        documents = [Document(file.path, file.language, file.text) for file in held]
        gaps = [gap for document in documents for gap in gaps_of(document)]
    else:
        raise EvaluationError(f"{where} is no folder; name one of files, of shards, or of a repository benchmark")
    asked = section.languages or LANGUAGES
    documents = [document for document in documents if document.language in asked]
    gaps = [gap for gap in gaps if gap.language in asked and gap.kind in section.gaps]
    if not documents:
        raise EvaluationError(
            f"{where} holds no file in {' or '.join(asked)} that can be measured; name another folder"
        )
    return benchmark_of("held_out", f"{folder.name}, held out", documents, gaps, section.form, section.parse)


def benchmark_of(
    name: str, title: str, documents: Iterable[Document], gaps: Iterable[Gap], form: str, parse: bool
) -> Benchmark:
    """A benchmark of anyone's documents and gaps.

    Args:
        form: left_to_right, or fim: a model sees what stands behind the gap, too.
        parse: say of completed blocks and lines whether the file parses with them, where it did before.

    Raises:
        EvaluationError: the parsers are not installed.
    """
    problems = [
        Problem(task_id=d.id, prompt="", gold=d.text, form="document", language=d.language, group=d.language)
        for d in documents
    ]
    parses = functools.lru_cache(maxsize=64)(is_well_formed)  # gaps of a file follow one another
    for gap in gaps:
        judged = parse and parses(gap.language, gap.prefix + gap.gold + gap.suffix)
        problems.append(
            Problem(
                task_id=gap.id,
                prompt=gap.prefix,
                gold=gap.gold,
                suffix=gap.suffix,
                left_to_right=form == "left_to_right",
                test=gap.language,
                judge=PARSER if judged else COMPARED,
                form="gap",
                language=gap.language,
                kind=gap.kind,
                group=f"{gap.language} {gap.kind}",
                measured=False,
                compared=True,
            )
        )
    return Benchmark(name, title, problems, open_judge=ParseJudge)


def gaps_of(document: Document) -> Iterator[Gap]:
    """Some lines and blocks of a document, drawn by a hash of its id."""
    lines = document.text.split("\n")
    for kind, first, last in items_of(document.id, document.text, document.language, _SEED):
        prefix, gold, suffix = items.around(lines, first, last)
        yield Gap(f"{document.id}:{kind}@{first}", kind, document.language, prefix, suffix, gold)


def _of_benchmark(folder: Path) -> tuple[list[Document], list[Gap]]:
    benchmark = items.load(folder, None)
    documents = [Document(path, language, text) for path, language, text in benchmark.held_out]
    gaps = [Gap(item.id, item.kind, item.language, item.prefix, item.suffix, item.gold) for item in benchmark.textual]
    return documents, gaps


def _of_corpus(folder: Path, section: HeldOutSection) -> list[Document]:
    try:
        splits = load_manifest(folder).splits
        if section.split not in splits:
            raise EvaluationError(
                f"tasks.held_out.split: the data at {folder} has no split {section.split}; it has {', '.join(splits)}"
            )
        tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
        documents = []
        for language in splits[section.split]:
            if language != INSTRUCTIONS:
                reader = ShardReader(folder, section.split, language)
                documents += _of_rows(reader, language, tokenizer, section.files)
    except DataError as error:
        raise EvaluationError(str(error)) from None
    return documents


def _of_rows(rows: ShardReader, language: str, tokenizer: Tokenizer, most: int) -> list[Document]:
    """What rows hold of documents, which end with EOS: evenly from all of them."""
    documents: list[Document] = []
    for row in range(0, len(rows), max(1, len(rows) // most)):
        pieces: list[list[int]] = [[]]
        for index in rows[row]:
            if index == tokenizer.eos_id:
                pieces.append([])
            else:
                pieces[-1].append(int(index))
        for place, piece in enumerate(pieces):
            text = tokenizer.decode(piece)
            if len(text) >= _LEAST_CHARACTERS and len(documents) < most:
                documents.append(Document(f"{language}/row {row}.{place}", language, text))
    return documents
