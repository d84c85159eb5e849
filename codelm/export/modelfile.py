"""The Modelfile by which Ollama takes a GGUF file: raw completion, and infilling where the model was trained for it."""

from codelm.errors import CheckpointError
from codelm.tokenizer import CodeTokenizer

MODELFILE = "Modelfile"
FIM_NAMES = ("fim_prefix", "fim_suffix", "fim_middle")
_STOPS = ("fim_prefix", "fim_suffix", "fim_middle", "fim_pad", "repo_name", "file_sep")


def modelfile(gguf_name: str, tokenizer: CodeTokenizer, max_seq_len: int, fim: bool, licence: str | None) -> str:
    """The text of a Modelfile beside a GGUF file.

    Args:
        fim: the model was trained to fill gaps, so that a request's `suffix` is used.

    Raises:
        CheckpointError: `fim`, but the vocabulary has no tokens for it.
    """
    if fim and not has_fim_tokens(tokenizer):
        raise CheckpointError("the vocabulary has no tokens for filling gaps; export without --fim")
    names = [tokenizer.eos_id, *(tokenizer.special_ids[name] for name in _STOPS if name in tokenizer.special_ids)]
    stops = [tokenizer.decode([index], keep_special=True) for index in names]
    template = "{{ .Prompt }}"
    if fim:
        prefix, suffix, middle = (tokenizer.decode([tokenizer.special_ids[n]], keep_special=True) for n in FIM_NAMES)
        gap = f"{prefix}{{{{ .Prompt }}}}{suffix}{{{{ .Suffix }}}}{middle}"
        template = f"{{{{ if .Suffix }}}}{gap}{{{{ else }}}}{template}{{{{ end }}}}"
    lines = [
        "# ollama create NAME -f Modelfile",
        f"FROM ./{gguf_name}",
        f'TEMPLATE """{template}"""',
        f"PARAMETER num_ctx {max_seq_len}",
        "PARAMETER temperature 0.2",
        "PARAMETER top_p 0.95",
        "PARAMETER repeat_penalty 1.0",
        *(f'PARAMETER stop "{stop}"' for stop in stops),
    ]
    if licence:
        lines.append(f'LICENSE """{licence}"""')
    return "\n".join(lines) + "\n"


def has_fim_tokens(tokenizer: CodeTokenizer) -> bool:
    """Whether the vocabulary has the three tokens of fill-in-the-middle; whether they were trained it cannot say."""
    return all(name in tokenizer.special_ids for name in FIM_NAMES)
