"""The model card that goes with every export: what the model is, what it was trained on, how to load it."""

import json
from pathlib import Path
from typing import Any

from codelm.data.manifest import MANIFEST_FILE, load_manifest
from codelm.errors import CodelmError
from codelm.languages import LANGUAGES

_SHAPE = (
    "model_type",
    "d_model",
    "n_heads",
    "n_layers",
    "max_seq_len",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
)


def model_card(name: str, parameters: int, config: dict[str, Any], run: dict[str, Any] | None, facts: list[str]) -> str:
    """README.md of an export.

    Args:
        name: of the model, its title.
        config: the exported config.json.
        run: the checkpoint's run.json, if it has one.
        facts: measured sentences, such as the parity check's.
    """
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [code]", "---", ""]
    lines += [f"# {name}", "", f"A causal language model of source code with {parameters:,} parameters.", ""]
    lines += ["## Architecture", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {config[key]} |" for key in _SHAPE if key in config]
    lines += [f"| weights | {config.get('torch_dtype') or config.get('dtype')} |", "", *_training(run)]
    lines += ["## How to load it", "", _usage(config), "## Measured at export", ""]
    lines += [f"- {fact}" for fact in facts]
    lines += ["", "## Limits", "", *_limits(config)]
    return "\n".join(lines) + "\n"


def _training(run: dict[str, Any] | None) -> list[str]:
    lines = ["## Training", ""]
    if run is None:
        return [*lines, "The checkpoint came without a record of its training.", ""]
    config, data = run["config"], run["data"]
    model = config["model"]
    start = (
        f"the weights of {model['pretrained_model_name_or_path']}"
        if model["name"] == "hf_causal_lm" and model.get("pretrained", True)
        else "freshly initialised weights"
    )
    if config.get("load_path"):
        start = f"the checkpoint {Path(config['load_path']).name}"
    optimizer = config["optimizer"]
    lines += [
        f"Run `{config['run_name']}`: {run['batch']:,} batches, {run['tokens']:,} tokens, starting from {start}.",
        f"Optimizer {optimizer['name']}, learning rate {optimizer['lr']}; batches of "
        f"{config['global_train_batch_size']} samples of {config['max_seq_len']} tokens; seed {config['seed']}.",
        f"Data manifest `{data['manifest_hash'][:16]}`; tokenizer `{run['tokenizer']['model_sha256'][:16]}`.",
        "",
        *_mixture(data["mixture"], _counts(config["train_data"], data["manifest_hash"])),
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in run["versions"].items()) + ".",
        "",
    ]
    return lines


def _mixture(shares: dict[str, float], counts: dict[str, tuple[int, int]]) -> list[str]:
    lines = ["| language | share of training | files | tokens in the corpus |", "|---|---|---|---|"]
    for language, share in sorted(shares.items(), key=lambda item: -item[1]):
        title = LANGUAGES[language].title if language in LANGUAGES else language
        files, tokens = (f"{count:,}" for count in counts[language]) if language in counts else ("", "")
        lines.append(f"| {title} | {share:.1%} | {files} | {tokens} |")
    return lines


def _counts(section: dict[str, Any], manifest_hash: str) -> dict[str, tuple[int, int]]:
    """Files and tokens by language, if the data of the run is still there."""
    if not (Path(section["path"]) / MANIFEST_FILE).is_file():
        return {}
    try:
        manifest = load_manifest(section["path"])
    except CodelmError:
        return {}
    if manifest.hash != manifest_hash:
        return {}
    return {language: (info.files, info.tokens) for language, info in manifest.splits[section["split"]].items()}


def _usage(config: dict[str, Any]) -> str:
    text = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = AutoModelForCausalLM.from_pretrained("PATH")
prompt = tokenizer("def fibonacci(n):", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=48)[0], skip_special_tokens=True))
```
"""
    if config["model_type"] == "mpt":
        text += """
No remote code is needed: transformers runs it as its own MPT. With codelm installed,
`codelm.model.pretrained.load("PATH")` gives the same model with its exact sentencepiece tokenizer; sequences may then
be longer than max_seq_len, and documents packed into one row are masked from each other.
"""
    return text


def _limits(config: dict[str, Any]) -> list[str]:
    lines = [
        "- It completes code; it was not taught to follow instructions, and what it writes may be wrong, insecure or "
        "close to code it was trained on. Run it only where running wrong code does no harm.",
    ]
    if config["model_type"] == "mpt":
        lines += [
            f"- In transformers alone, prompt and completion together may not exceed {config['max_seq_len']} tokens.",
            "- Training and evaluation used `spiece.model`. `tokenizer.json` is its translation for transformers; "
            "where several segmentations are equally good it may choose another one.",
        ]
    return lines


def read_run(folder: Path) -> dict[str, Any] | None:
    """The run.json of a checkpoint folder; None when it has none."""
    file = folder / "run.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
