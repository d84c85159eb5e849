"""llama.cpp's server in a process of its own, since it ends the whole process when a file is not to its liking.

`python -m codelm.export.llama_server FILE CONTEXT` prints the address on its first line and serves until stdin closes.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from codelm.errors import CheckpointError

_PATIENCE_SECONDS = 3600.0


def is_installed() -> bool:
    """Whether llama.cpp is at hand, as the package xllamacpp."""
    return find_spec("xllamacpp") is not None


class LlamaServer:
    """A running server; every method raises `CheckpointError` when llama.cpp refuses or breaks off."""

    def __init__(self, address: str, key: str, log: Path) -> None:
        self._address, self._key, self._log = address, key, log

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text in which the text of special tokens is text."""
        return self._post("/tokenize", content=text, parse_special=False)["tokens"]

    def complete(self, ids: list[int], new_tokens: int, top: int) -> tuple[list[int], list[dict[int, float]]]:
        """Greedy tokens after a prompt, and the log-probabilities of the `top` likeliest ids before each of them.

        There may be fewer of the latter: the server gives none for a token that ends inside a character.
        """
        answer = self._post(
            "/completion",
            prompt=ids,
            n_predict=new_tokens,
            n_probs=top,
            temperature=0.0,
            cache_prompt=False,
            return_tokens=True,
        )
        likeliest = []
        for token, step in zip(answer["tokens"], answer.get("completion_probabilities", []), strict=False):
            if step["id"] != token:
                break
            likeliest.append({int(found["id"]): float(found["logprob"]) for found in step["top_logprobs"]})
        return answer["tokens"], likeliest

    def infill_prompt(self, prefix: str, suffix: str) -> str:
        """The prompt that llama.cpp puts together for a gap, special tokens written out."""
        return self._post("/infill", input_prefix=prefix, input_suffix=suffix, n_predict=1, temperature=0.0)["prompt"]

    def _post(self, path: str, **fields: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(self._address + path, json.dumps(fields).encode(), headers)
        # Its own opener: a proxy of the environment must not see loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_PATIENCE_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise CheckpointError(f"llama.cpp refused {path}: {error.read().decode(errors='replace')[:300]}") from error
        except OSError as error:
            raise CheckpointError(f"llama.cpp broke off during {path}: {_last_line(self._log)}") from error


@contextmanager
def llama_server(file: Path, context: int) -> Iterator[LlamaServer]:
    """Load a GGUF file on the CPU, with room for `context` tokens.

    Raises:
        CheckpointError: llama.cpp cannot load it.
    """
    key = os.urandom(16).hex()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(file), str(context)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "CODELM_LLAMA_KEY": key},
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().decode().strip()
            if not address.startswith("http"):
                process.wait()
                raise CheckpointError(f"llama.cpp cannot load {file.name}: {_last_line(log)}")
            yield LlamaServer(address, key, log)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line.lower() for word in ("assert", "error", "failed"))]
    # The first is the cause; what follows are its consequences.
    return (telling or lines or ["it gave no reason"])[0][-300:]


def _serve(file: str, context: int) -> None:
    # llama.cpp writes to stdout as it likes; the caller reads its own line from there.
    answer = os.dup(1)
    os.dup2(2, 1)
    # By name: it is compiled, so that type checkers find nothing in it.
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.n_ctx = context
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.warmup = False
    params.ui = False
    params.fit_params = False
    params.api_keys = [os.environ["CODELM_LLAMA_KEY"]]
    params.verbosity = 1
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    os.write(answer, f"{server.listening_address}\n".encode())
    os.close(answer)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
