"""Export to a GGUF file and an Ollama Modelfile: written, and checked against their source in llama.cpp itself."""

from pathlib import Path

from codelm.errors import CheckpointError
from codelm.export.attribution import result_licence
from codelm.export.card import CardFacts, model_card
from codelm.export.gguf_file import gguf_obstacle, write_gguf
from codelm.export.llama_parity import HOW_TO_GET_IT, check_llama_parity
from codelm.export.llama_server import is_installed
from codelm.export.modelfile import MODELFILE, has_fim_tokens, modelfile
from codelm.export.scores import card_scores
from codelm.export.source import Source
from codelm.files import sync_to_disk
from codelm.model.lineage import write_lineage
from codelm.model.pretrained import load
from codelm.tokenizer import CodeTokenizer

_USAGE = """    llama-server -m FILE -c CONTEXT        # llama.cpp: /completion; /infill if it learned to fill gaps
    ollama create NAME -f Modelfile        # Ollama
"""


def write_gguf_folder(source: Source, folder: Path, gguf_type: str, fim: bool | None = None) -> list[str]:
    """Write the checkpoint as `NAME-TYPE.gguf` with a Modelfile and a model card.

    Args:
        folder: does not exist yet.
        gguf_type: f16 or q8_0.
        fim: whether the model was trained to fill gaps; None takes what its run recorded.

    Returns:
        What was measured, a sentence each.

    Raises:
        CheckpointError: llama.cpp would compute the model wrongly, or the parity check fails.
        EnvironmentFailure: a package is absent.
        OSError: the disk is full.
    """
    model, tokenizer = load(source.folder)
    obstacle = gguf_obstacle(model.config, tokenizer)
    if obstacle or not isinstance(tokenizer, CodeTokenizer):
        raise CheckpointError(str(obstacle))
    scores = card_scores(model, source.folder, source.run, source.evaluation)
    fim = recorded_fim(source) if fim is None else fim
    licence, longest = result_licence(source.lineage), int(model.config.max_seq_len)
    folder.mkdir(parents=True)
    file = folder / f"{source.name}-{gguf_type}.gguf"
    # First, since it refuses a wrong --fim.
    ollama = modelfile(file.name, tokenizer, longest, fim, licence)
    (folder / MODELFILE).write_text(ollama, encoding="utf-8")
    write_gguf(model.float(), tokenizer, tokenizer.path, file, gguf_type, source.name, source.lineage, licence)
    sync_to_disk(file)
    if is_installed():
        measured = check_llama_parity(model, tokenizer, file, gguf_type).sentences()
    else:
        measured = [f"parity was not checked in llama.cpp, for the package xllamacpp is absent: {HOW_TO_GET_IT}"]
    write_lineage(folder, source.itself())
    card = CardFacts(
        name=source.name,
        parameters=model.num_parameters(),
        config={**model.config.to_dict(), "model_type": "mpt"},
        weights=gguf_type,
        run=source.run,
        lineage=source.lineage,
        usage=_USAGE.replace("FILE", file.name).replace("CONTEXT", str(longest)),
        measured=measured,
        limits=_limits(tokenizer, fim),
        scores=_before_rounding(scores),
        front=["library_name: gguf"],
    )
    (folder / "README.md").write_text(model_card(card), encoding="utf-8")
    return measured


def recorded_fim(source: Source) -> bool:
    """Whether the run says that it trained fill-in-the-middle."""
    return bool(source.run and source.run["data"].get("fim"))


def _before_rounding(scores: list[str]) -> list[str]:
    return [*scores, "| | | all measured in codelm, before the weights were rounded for this file |"] if scores else []


def _limits(tokenizer: CodeTokenizer, fim: bool) -> list[str]:
    limits = [
        "llama.cpp computes GELU by an approximation and reads no text with a NUL character.",
        "In llama.cpp's `/completion` the text of a special token, such as `<|endoftext|>`, is that token.",
    ]
    if has_fim_tokens(tokenizer) and not fim:
        limits.append(
            "The vocabulary has tokens for filling gaps, by which llama.cpp offers `/infill`, but the model's run does "
            "not say that it was trained to use them: complete code at the end of a text only."
        )
    return limits
