"""Export to a transformers folder that loads without codelm: written, and checked against its source."""

import json
from pathlib import Path

import torch

from codelm.errors import CheckpointError
from codelm.export.card import CardFacts, model_card
from codelm.export.parity import check_parity
from codelm.export.scores import card_scores
from codelm.export.source import Source
from codelm.model.fast_tokenizer import MISMATCH_FILE, Mismatch
from codelm.model.lineage import write_lineage
from codelm.model.pretrained import load
from codelm.model.saving import save_transformers
from codelm.tokenizer import JSON_FILE

USAGE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = AutoModelForCausalLM.from_pretrained("PATH")
prompt = tokenizer("def fibonacci(n):", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=48)[0], skip_special_tokens=True))
```
"""
_USAGE_MPT = """
No remote code is needed: transformers runs it as its own MPT. With codelm installed,
`codelm.model.pretrained.load("PATH")` gives the same model with its exact sentencepiece tokenizer; sequences may then
be longer than max_seq_len, and documents packed into one row are masked from each other.
"""


def write_transformers_folder(source: Source, folder: Path, dtype: torch.dtype | None = None) -> list[str]:
    """Write the checkpoint for `AutoModelForCausalLM` and `AutoTokenizer`, with a model card.

    Args:
        folder: does not exist yet.
        dtype: of the exported weights; None keeps theirs.

    Returns:
        What was measured, a sentence each.

    Raises:
        CheckpointError: transformers would compute the model wrongly, or the parity check fails.
        OSError, EnvironmentFailure: the disk is full.
    """
    model, tokenizer = load(source.folder, dtype=dtype)
    scores = card_scores(model, source.folder, source.run, source.evaluation)
    save_transformers(model, model.config, source.folder, folder, native=True)
    if not (folder / JSON_FILE).is_file():
        raise CheckpointError(
            f"the tokenizer in {source.folder} cannot be written as {JSON_FILE}, which transformers needs; only a "
            "Unigram spiece.model can"
        )
    measured = [check_parity(model.float(), tokenizer, folder).sentence()]
    mismatch = _mismatch(folder)
    if mismatch is not None:
        measured.append(mismatch.sentence())
    write_lineage(folder, source.itself())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    is_mpt = config["model_type"] == "mpt"
    card = CardFacts(
        name=source.name,
        parameters=model.num_parameters(),
        config=config,
        weights=str(config.get("torch_dtype") or config.get("dtype")),
        run=source.run,
        lineage=source.lineage,
        usage=USAGE + (_USAGE_MPT if is_mpt else ""),
        measured=measured,
        limits=_limits(config["max_seq_len"]) if is_mpt else (),
        scores=scores,
        front=["library_name: transformers"],
    )
    (folder / "README.md").write_text(model_card(card), encoding="utf-8")
    return measured


def _mismatch(folder: Path) -> Mismatch | None:
    file = folder / MISMATCH_FILE
    return Mismatch(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def _limits(max_seq_len: int) -> list[str]:
    return [
        f"In transformers alone, prompt and completion together may not exceed {max_seq_len} tokens.",
        "Training and evaluation used `spiece.model`. `tokenizer.json` is its translation for transformers; where "
        "several segmentations are equally good it may choose another one.",
    ]
