"""How llama.cpp encodes real files by three forms of one vocabulary: `python benchmarks/gguf_tokenizer.py TOKENIZER`.

TOKENIZER is a folder with spiece.model. Each form goes into a GGUF file with a model of random weights, and llama.cpp
(the package xllamacpp) encodes files of Python's standard library with it; sentencepiece's ids are the truth.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import gguf
from sentencepiece import sentencepiece_model_pb2

from codelm.errors import exit_on_error
from codelm.export import gguf_file
from codelm.export.gguf_vocabulary import GgufVocabulary, gguf_vocabulary
from codelm.export.llama_parity import compare_ids
from codelm.export.llama_server import llama_server
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.fast_tokenizer import sample_texts
from codelm.tokenizer import CodeTokenizer


def as_sentencepiece_types(model: bytes, size: int) -> GgufVocabulary:
    """The vocabulary with the types that sentencepiece gives its pieces, as llama.cpp's converter writes it."""
    proto: Any = sentencepiece_model_pb2.ModelProto.FromString(model)  # pyright: ignore[reportAttributeAccessIssue]
    pieces = proto.pieces
    return replace(
        gguf_vocabulary(model, size),
        texts=[piece.piece.encode() for piece in pieces],
        scores=[piece.score for piece in pieces],
        types=[piece.type for piece in pieces],
    )


@exit_on_error
def main() -> None:
    folder = Path(sys.argv[1])
    tokenizer = CodeTokenizer(folder)
    texts, corpus = sample_texts()
    texts = [text for text in texts if "\0" not in text]
    size = tokenizer.vocab_size
    config = ReplitCodeConfig(d_model=32, n_heads=2, n_layers=1, vocab_size=size, max_seq_len=64)
    model = ReplitCodeForCausalLM(config)
    print(f"{len(texts)} files of {corpus}; vocabulary of {size}\n")
    print("| form | files with other ids | files whose text is lost |\n|---|---|---|")
    forms = {
        "t5, as exported": ("t5", gguf_vocabulary),
        "t5, sentencepiece's types": ("t5", as_sentencepiece_types),
        "llama, sentencepiece's types": ("llama", as_sentencepiece_types),
    }
    named = gguf.GGUFWriter.add_tokenizer_model
    for form, (kind, vocabulary) in forms.items():
        with (
            tempfile.TemporaryDirectory() as temporary,
            mock.patch.object(gguf_file, "gguf_vocabulary", vocabulary),
            mock.patch.object(gguf.GGUFWriter, "add_tokenizer_model", lambda self, _, kind=kind: named(self, kind)),
        ):
            file = Path(temporary) / "x.gguf"
            gguf_file.write_gguf(model, tokenizer, folder, file, "f16", "x")
            with llama_server(file, 64) as server:
                counts = compare_ids(server, tokenizer, texts)
        print(f"| {form} | {counts.differing_files} of {counts.files} | {counts.lost_files} |")


if __name__ == "__main__":
    main()
