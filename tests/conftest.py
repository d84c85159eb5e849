"""Shared builders: a small corpus of real code, prepared once a session, and training configurations over it."""

import contextlib
import hashlib
import json
import os
import sysconfig
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, file_download, hf_api
from huggingface_hub import utils as hub_utils

from codelm.config.data import DataConfig
from codelm.config.train import TrainConfig
from codelm.data.prepare import prepare

CORPUS_SEQ_LEN = 256

# Two workers with a pool of threads each get in each other's way: a third of the processors' time. Torch reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders of long tests first, so that two workers end at the same time."""
    long = ("train", "recipes", "eval", "data", "export", "model")
    tests = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(tests).parts[0]
        return long.index(folder) if folder in long else len(long)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder of data_prep: Python and C from the standard library, 256-token samples, 512 tokens."""
    folder = tmp_path_factory.mktemp("corpus") / "data"
    settings = {
        "run_name": "corpus",
        "sources": {
            "python": {"path": sysconfig.get_path("stdlib"), "include": ["email/**", "json/**"], "licence": "PSF-2.0"},
            "c": {"path": sysconfig.get_path("include"), "include": ["cpython/**"], "licence": "PSF-2.0"},
        },
        "split": {"validation": 0.2},
        "tokenizer": {"train": {"vocab_size": 512, "sample_bytes": 200_000}},
        "max_seq_len": CORPUS_SEQ_LEN,
        "output_folder": str(folder),
        "num_workers": 1,
    }
    prepare(DataConfig.model_validate(settings))
    return folder


@pytest.fixture
def train_settings(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    """The keys of a training run of eight small batches over `corpus`, with dropout so that random numbers matter."""
    return {
        "run_name": "test",
        "max_seq_len": CORPUS_SEQ_LEN,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2, "resid_pdrop": 0.1},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "eval_data": {"heldout": {"path": str(corpus), "max_samples_per_language": 4}},
        "optimizer": {"name": "lionw", "lr": 1e-3, "weight_decay": 1e-4},
        "scheduler": {"name": "cosine_with_warmup", "t_warmup": "2ba"},
        "max_duration": "8ba",
        "global_train_batch_size": 4,
        "device_train_microbatch_size": 2,
        "device": "cpu",
        "save_folder": str(tmp_path / "checkpoints"),
        "save_interval": "4ba",
    }


@pytest.fixture
def train_config(train_settings: dict[str, Any]) -> Callable[..., TrainConfig]:
    """A validated configuration; keyword arguments replace top-level keys."""

    def make(**changes: Any) -> TrainConfig:
        return TrainConfig.model_validate({**train_settings, **changes})

    return make


HUB_COMMIT = "d" * 40


class _Hub(BaseHTTPRequestHandler):
    """What the hub answers about the dataset octo/stack, whose files are in a folder."""

    protocol_version = "HTTP/1.1"
    folder: Path
    gated: bool
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        wanted = json.loads(body)["paths"] if body.startswith("{") else urllib.parse.parse_qs(body)["paths"]
        found = [self.folder / path for path in wanted if (self.folder / path).exists()]
        self._json([self._entry(path) for path in found])

    def _answer(self) -> None:
        path = urllib.parse.unquote(self.path.split("?")[0])
        self.asked.append(f"{self.command} {path} {self.headers.get('Range') or ''}".strip())
        about = path.removeprefix("/api").removeprefix("/datasets/octo/stack")
        action, _, place = about.removeprefix("/").partition("/")
        revision, _, place = place.partition("/")
        if about == path.removeprefix("/api"):
            self._error(401, "RepoNotFound")
        elif not action:
            self._about()
        elif revision not in ("main", HUB_COMMIT):
            self._error(404, "RevisionNotFound")
        elif action == "revision":
            self._about()
        elif not (self.folder / place).exists():
            self._error(404, "EntryNotFound")
        elif action == "tree":
            below = self.folder / place
            entries = below.rglob("*") if "recursive=true" in self.path.lower() else below.iterdir()
            self._json([self._entry(entry) for entry in sorted(entries)])
        elif self.gated:
            self._error(403, "GatedRepo")
        else:
            self._file(self.folder / place)

    def _about(self) -> None:
        self._json({"id": "octo/stack", "sha": HUB_COMMIT, "siblings": []})

    def _entry(self, path: Path) -> dict[str, Any]:
        name = str(path.relative_to(self.folder))
        if path.is_dir():
            return {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
        return {"type": "file", "oid": "0" * 40, "size": path.stat().st_size, "path": name}

    def _file(self, path: Path) -> None:
        contents, span = path.read_bytes(), self.headers.get("Range")
        self.send_response(206 if span else 200)
        if span:
            first, last = (int(number) for number in span.removeprefix("bytes=").split("-"))
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(contents)}")
            contents = contents[first : last + 1]
        self.send_header("X-Repo-Commit", HUB_COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(path.read_bytes()).hexdigest()}"')
        self._send(contents)

    def _json(self, value: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._send(json.dumps(value).encode())

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "no")
        self._send(b"{}")

    def _send(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


# Before version 1, a session that was opened offline stays so.
forget_sessions: Callable[[], None] = getattr(hub_utils, "reset_sessions", lambda: None)


@contextlib.contextmanager
def _hub_at(endpoint: str, cache: Path) -> Iterator[None]:
    """huggingface_hub takes another address for the hub's, as a user that is not logged in."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    template = endpoint + template[template.index("/{repo_id}") :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", endpoint)
        patch.setattr(hf_api.api, "endpoint", endpoint)
        for holder in (constants, file_download):
            # Before version 1, file_download has a copy of its own.
            if hasattr(holder, "HUGGINGFACE_CO_URL_TEMPLATE"):
                patch.setattr(holder, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no token"))
        patch.delenv("HF_TOKEN", raising=False)
        forget_sessions()
        yield
    forget_sessions()


@pytest.fixture(scope="session")
def serve_hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Let huggingface_hub talk to this machine: `with serve_hub(folder) as hub`, where the folder is octo/stack.

    `hub.asked` holds what was asked; with `hub.gated` files are refused.
    """

    @contextlib.contextmanager
    def serve(folder: Path) -> Iterator[type[_Hub]]:
        handler = type("Hub", (_Hub,), {"folder": folder, "gated": False, "asked": []})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with _hub_at(f"http://127.0.0.1:{server.server_port}", tmp_path_factory.mktemp("hub")):
                yield handler
            server.shutdown()

    return serve


@pytest.fixture
def hub_out_of_reach(tmp_path: Path) -> Iterator[None]:
    """Nothing answers where huggingface_hub looks for the hub."""
    with _hub_at("http://127.0.0.1:9", tmp_path / "hub"):
        yield
