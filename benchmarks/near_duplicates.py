"""Near duplicates: speed and agreement with exact Jaccard similarities, against datasketch in the same run.

Reads the files of the 20 languages below the folders (exact copies once). Signing is timed on some `--megabytes` of
them, CPU time of one process, the paths taking turns, the fastest of `--repeat`. Agreement is judged on `--files` of
them, of which all pairs are compared exactly as Python's sets. At last all files are clustered, and what is dropped is
compared with what is kept. datasketch is left out where it is not installed (`pip install datasketch`).

    python benchmarks/near_duplicates.py FOLDER... --megabytes 8 --files 4000
"""

import argparse
import importlib
import importlib.util
import random
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from codelm.config.cleaning import NearDuplicatesSection
from codelm.data.dedup.clusters import best_of, connect
from codelm.data.dedup.minhash import has_signature, optimal_bands, signatures, similarity
from codelm.data.dedup.near_duplicates import Comparison, bands_of, cluster_documents, find_signatures, least_equal
from codelm.data.engines.local import LocalEngine
from codelm.languages import language_of

TOKEN = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]+")
PARTITION = 1500  # documents; some 8 MB
Edges = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--num-permutations", type=int, default=128)
    args = parser.parse_args()
    section = NearDuplicatesSection(num_permutations=args.num_permutations)
    peer = importlib.util.find_spec("datasketch") is not None
    texts = read(args.folders)
    print(f"{len(texts)} files, {megabytes(texts):.0f} MB, {section.num_permutations} permutations")
    speed(texts, section, args.megabytes, args.repeat, peer)
    agreement(texts[: args.files], section, peer)
    whole(texts, section)


def read(folders: list[Path]) -> list[str]:
    """The distinct texts, shuffled."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if language_of(path.name) is not None]
    contents = dict.fromkeys(
        path.read_bytes()
        for path in paths
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= 1_000_000
    )
    texts = []
    for content in contents:
        try:
            texts.append(content.decode())
        except UnicodeDecodeError:
            continue
    random.Random(0).shuffle(texts)
    return texts


def megabytes(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def shingles(text: str, ngram: int = 5) -> set[tuple[str, ...]]:
    tokens = TOKEN.findall(text)
    return set(zip(*(tokens[start:] for start in range(ngram)), strict=False)) if len(tokens) >= 10 else set()


def sign_as_datasketch(texts: list[str], num_permutations: int) -> list[Any]:
    """As BigCode's recipe does: the tokens of a regular expression, joined n-grams in a set, one update a text."""
    datasketch: Any = importlib.import_module("datasketch")
    signed = []
    for text in texts:
        minhash = datasketch.MinHash(num_perm=num_permutations)
        minhash.update_batch([" ".join(shingle).encode() for shingle in shingles(text)])
        signed.append(minhash)
    return signed


def speed(texts: list[str], section: NearDuplicatesSection, limit: float, repeat: int, peer: bool) -> None:
    sample = texts[: max(1, round(len(texts) * limit / megabytes(texts)))]
    paths: dict[str, Callable[[], object]] = {"codelm": lambda: signatures(sample, section)}
    if peer:
        paths["datasketch"] = lambda: sign_as_datasketch(sample, section.num_permutations)
    best = dict.fromkeys(paths, float("inf"))
    for _ in range(repeat):
        for name, sign in paths.items():
            started = time.process_time()
            sign()
            best[name] = min(best[name], time.process_time() - started)
    for name, seconds in best.items():
        rate = megabytes(sample) / seconds
        print(f"signing, {name:<12}{rate:>7.1f} MB/s a core   codelm / this: {seconds / best['codelm']:.1f}")


def exact_pairs(texts: list[str], least: float) -> tuple[Edges, np.ndarray]:
    """All pairs of at least that similarity, int64 (pairs, 2), and their similarities."""
    number: dict[tuple[str, ...], int] = {}
    holders: list[list[int]] = []
    sizes = np.zeros(len(texts))
    pairs, similar = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for index, text in enumerate(texts):
        mine = shingles(text)
        sizes[index] = len(mine)
        common = np.zeros(index, dtype=np.int64)
        for shingle in mine:
            known = number.setdefault(shingle, len(holders))
            if known == len(holders):
                holders.append([])
            elif holders[known]:
                common[holders[known]] += 1
            holders[known].append(index)
        others = np.flatnonzero(common)
        jaccard = common[others] / (sizes[others] + len(mine) - common[others])
        near = jaccard >= least
        pairs.append(np.stack([others[near], np.full(near.sum(), index)], axis=1))
        similar.append(jaccard[near])
    return np.concatenate(pairs), np.concatenate(similar)


def clustered(rows: np.ndarray, section: NearDuplicatesSection, folder: Path) -> np.ndarray:
    parts = np.split(rows, range(PARTITION, len(rows), PARTITION))
    for index, part in enumerate(parts):
        (folder / "in" / f"{index:05}").mkdir(parents=True)
        np.save(folder / "in" / f"{index:05}" / "signatures.npy", part)
    found = find_signatures(folder / "in", len(parts))
    return cluster_documents(found, section, folder / "work", folder / "scratch", LocalEngine(1))


def datasketch_clusters(signed: list[Any], usable: np.ndarray, section: NearDuplicatesSection) -> np.ndarray:
    datasketch: Any = importlib.import_module("datasketch")
    index = datasketch.MinHashLSH(section.threshold, section.num_permutations)
    edges = [[0, 0]]
    for document in np.flatnonzero(usable).tolist():
        edges += [[other, document] for other in index.query(signed[document])]
        index.insert(document, signed[document])
    return connect(len(signed), [np.array(edges)])


def agreement(texts: list[str], section: NearDuplicatesSection, peer: bool) -> None:
    pairs, exact = exact_pairs(texts, 0.3)
    near = pairs[exact >= section.threshold]
    truth = connect(len(texts), [near])
    rows = signatures(texts, section)
    print(f"\n{len(texts)} files, all pairs compared: {len(pairs)} of similarity >= 0.3, {len(near)} >= 0.7")
    signed = sign_as_datasketch(texts, section.num_permutations) if peer else []
    estimates = {"codelm": similarity(rows[pairs[:, 0]], rows[pairs[:, 1]])}
    if peer:
        estimates["datasketch"] = np.array([signed[one].jaccard(signed[two]) for one, two in pairs.tolist()])
    expected = np.sqrt(np.mean(exact * (1 - exact)) / section.num_permutations)
    for name, estimate in estimates.items():
        error = np.sqrt(np.mean((estimate - exact) ** 2))
        print(f"estimate, {name:<11} RMSE {error:.4f} ({expected:.4f} expected), bias {np.mean(estimate - exact):+.4f}")
    print("clusters                    bands  pair recall  pair precision  >= 0.6  files dropped  CPU s")
    unverified = section.model_copy(update={"verify": False})
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in (("codelm", section), ("codelm, verify: false", unverified)):
            started = time.process_time()
            found = clustered(rows, settings, Path(folder) / name)
            seconds = time.process_time() - started
            describe(name, bands_of(settings), found, pairs, exact, seconds)
    if peer:
        started = time.process_time()
        found = datasketch_clusters(signed, has_signature(rows), section)
        seconds = time.process_time() - started
        bands = optimal_bands(section.threshold, section.num_permutations)
        describe("datasketch LSH", bands, found, pairs, exact, seconds)
    describe("exact, single linkage", None, truth, pairs, exact, None)


def describe(
    name: str,
    bands: tuple[int, int] | None,
    found: np.ndarray,
    pairs: Edges,
    exact: np.ndarray,
    seconds: float | None,
) -> None:
    """A line: of the pairs >= 0.7 the share that is together, of the pairs together the shares >= 0.7 and >= 0.6."""
    sizes = np.unique(found, return_counts=True)[1]
    together = found[pairs[:, 0]] == found[pairs[:, 1]]
    joined = max(1, int((sizes * (sizes - 1) // 2).sum()))
    shape = "" if bands is None else f"{bands[0]}x{bands[1]}"
    print(
        f"{name:<26}{shape:>7}{together[exact >= 0.7].mean():>13.3f}{(together & (exact >= 0.7)).sum() / joined:>16.3f}"
        f"{(together & (exact >= 0.6)).sum() / joined:>8.3f}{len(found) - len(sizes):>15}"
        f"{'' if seconds is None else format(seconds, '7.2f')}"
    )


def whole(texts: list[str], section: NearDuplicatesSection) -> None:
    rows = signatures(texts, section)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.process_time()
        clusters = clustered(rows, section, folder)
        seconds = time.process_time() - started
        found = find_signatures(folder / "in", len(list((folder / "in").iterdir())))
        sizes = np.unique(clusters, return_counts=True)[1]
        print(
            f"\nall {len(texts)} files: {seconds:.1f} s CPU; {(sizes > 1).sum()} clusters of several files, the largest"
        )
        print(f"of {np.sort(sizes)[-5:][::-1].tolist()} files. What is dropped, exactly compared with what is kept:")
        length = np.array([len(text) for text in texts])
        comparison = Comparison(found, least_equal(section))
        for label, alike in (("one of a cluster kept", None), ("and what is unlike it", comparison)):
            report_dropped(label, texts, clusters, best_of(clusters, [length], alike=alike))


def report_dropped(label: str, texts: list[str], clusters: np.ndarray, kept: np.ndarray) -> None:
    dropped = np.flatnonzero(~kept)
    sample = random.Random(0).sample(dropped.tolist(), min(1000, len(dropped)))
    closest = []
    for document in sample:
        mine = shingles(texts[document])
        others = [shingles(texts[other]) for other in np.flatnonzero(kept & (clusters == clusters[document]))]
        closest.append(max(len(mine & other) / len(mine | other) for other in others))
    shares = ", ".join(f"{np.mean(np.array(closest) < bound):.1%} < {bound}" for bound in (0.7, 0.65, 0.6, 0.5))
    print(f"{label:<24}{len(dropped):>7} files dropped; closest kept file: median {np.median(closest):.2f}, {shares}")


if __name__ == "__main__":
    main()
