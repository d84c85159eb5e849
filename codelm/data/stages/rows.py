"""Token ids to the finished corpus: the shards of every stream, and the manifest over them."""

from dataclasses import replace

import codelm
from codelm.config.data import DataConfig
from codelm.data.documents import Counts
from codelm.data.engines.local import Engine
from codelm.data.manifest import Manifest
from codelm.data.packing.pack import PackTask, load_summary, pack_stream
from codelm.data.select import SPLITS, Selection
from codelm.data.shards import token_dtype
from codelm.data.stages.documents import load_findings, load_sought
from codelm.data.stages.places import summary_file, tokens_folder
from codelm.data.stages.progress import PACKING, Progress
from codelm.data.workspace import Workspace, settings_of
from codelm.errors import DataError
from codelm.tokenizer import Tokenizer


def pack_stage(
    space: Workspace,
    config: DataConfig,
    selection: Selection,
    tokenizer: Tokenizer,
    engine: Engine,
    progress: Progress,
) -> None:
    """Write the shards of every split and language."""
    sizes = {
        (split, language): size for split in SPLITS for language, (_, size) in selection.files_and_bytes(split).items()
    }
    (space.work / "packed").mkdir(exist_ok=True)
    first = PackTask(
        name="",
        tokens=tuple(tokens_folder(space, index) for index in range(selection.partitions)),
        output=space.output,
        summary=space.work,
        scratch=space.scratch,
        max_seq_len=config.max_seq_len,
        dtype=token_dtype(tokenizer.vocab_size).name,
        shard_bytes=config.shard_bytes,
        packing=config.packing,
        eos_id=tokenizer.eos_id,
    )
    tasks = [
        replace(
            first,
            name=f"{split}.{language}",
            output=space.output / split / language,
            summary=summary_file(space, split, language),
        )
        for split, language in sizes
    ]
    done, streams = 0, list(sizes)
    progress(PACKING, done, sum(sizes.values()))
    for index in engine.each(pack_stream, tasks):
        done += sizes[streams[index]]
        progress(PACKING, done, sum(sizes.values()))


def build_manifest(
    space: Workspace, config: DataConfig, selection: Selection, tokenizer: Tokenizer, counts: Counts
) -> Manifest:
    """The manifest of what the stages left.

    Raises:
        DataError: when nothing fills one sample.
    """
    splits = {
        split: {
            language: load_summary(summary_file(space, split, language))
            for language in selection.files_and_bytes(split)
        }
        for split in SPLITS
    }
    if not any(stream.samples for stream in splits["train"].values()):
        raise DataError(
            f"no language has {config.max_seq_len} tokens to train on, not one sample; add sources or lower"
            f" max_seq_len, and give another output_folder or delete {config.output_folder}"
        )
    findings = load_findings(space, selection.partitions)
    dropped, secrets = counts.save()["sources"], findings.secrets.save()["sources"]
    return Manifest(
        run_name=config.run_name,
        codelm_version=codelm.__version__,
        settings=settings_of(config),
        max_seq_len=config.max_seq_len,
        dtype=token_dtype(tokenizer.vocab_size).name,
        tokenizer=tokenizer.fingerprint(),
        splits=splits,
        dropped=counts.to_dict(),
        secrets=findings.secrets.to_dict(),
        contamination=findings.contamination.to_dict(),
        sought=load_sought(space),
        by_source={
            key: {"dropped": dropped.get(key, {}), "secrets": secrets.get(key, {})} for key in sorted(config.sources)
        },
    )
