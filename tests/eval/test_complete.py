"""`eval/complete.py` as a user runs it: prompts, files, fill-in-the-middle; bad input is a sentence."""

import importlib.util
import io
import os
import pty
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import sentencepiece
import torch

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.generation import generate
from codelm.model.pretrained import load, save_transformers

RECIPE = Path(__file__).parents[2] / "eval" / "complete.py"
PROMPT = "def fib(n):\n"


def _checkpoint(tokenizer_folder, vocab_size, folder, **changes):
    torch.manual_seed(2)
    config = ReplitCodeConfig(d_model=32, n_heads=2, n_layers=1, vocab_size=vocab_size, max_seq_len=64, **changes)
    model = ReplitCodeForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # otherwise a fresh model repeats one token
    save_transformers(model, config, tokenizer_folder, folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory):
    return _checkpoint(tokenizer.path, tokenizer.vocab_size, tmp_path_factory.mktemp("complete") / "checkpoint")


@pytest.fixture(scope="module")
def without_fim(tmp_path_factory):
    """A checkpoint whose tokenizer has no special pieces but EOS, as replit-code-v1-3b's."""
    folder = tmp_path_factory.mktemp("plain")
    lines = [f"word{i} = other{i * 7 % 31} + {i}" for i in range(400)]
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=writer, vocab_size=400, hard_vocab_limit=False,
        bos_id=-1, unk_id=0, eos_id=1, pad_id=2, eos_piece="<|endoftext|>", minloglevel=2, byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(writer.getvalue())
    size = len(sentencepiece.SentencePieceProcessor(model_proto=writer.getvalue()))
    return _checkpoint(folder, size, folder / "checkpoint")


@pytest.fixture
def complete(monkeypatch, capsys):
    """Run the recipe in this process: (exit code, stdout, stderr)."""

    def call(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["complete.py", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            runpy.run_path(str(RECIPE), run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def recipe():
    """The recipe as a module."""
    spec = importlib.util.spec_from_file_location("complete", RECIPE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["complete"] = module
    spec.loader.exec_module(module)
    return module


def expected(checkpoint, ids_of, new=12, **options):
    """What our loop makes of ids, as text."""
    model, tokenizer = load(checkpoint)
    settings = {"eos_id": tokenizer.eos_id, "vocab_size": tokenizer.vocab_size, "max_new_tokens": new, **options}
    specials = set(tokenizer.special_ids.values())
    found = generate(model, [ids_of(tokenizer)], **settings, stop=lambda place, ids: ids[-1] in specials)
    return [tokenizer.decode(ids) for ids in found]


def infilling(prefix, suffix):
    """Prefix, suffix, middle."""

    def ids(tokenizer):
        marks = tokenizer.special_ids
        before, behind = tokenizer.encode(prefix), tokenizer.encode(suffix)
        return [marks["fim_prefix"], *before, marks["fim_suffix"], *behind, marks["fim_middle"]]

    return ids


def test_off_a_terminal_stdout_is_the_completion_alone(complete, checkpoint):
    (text,) = expected(checkpoint, lambda tokenizer: tokenizer.encode(PROMPT))
    assert text
    for given in ([PROMPT], ["-"], []):
        assert complete(checkpoint, *given, "--max-new-tokens", 12, stdin=PROMPT) == (0, text, "")


def test_text_behind_the_cursor_is_shown_to_the_model(complete, checkpoint, tmp_path):
    file = tmp_path / "code.py"
    file.write_text("a = 1\nb = []\nc = 3\n")
    (text,) = expected(checkpoint, infilling("a = 1\nb = [", "]\nc = 3\n"))
    short = ("--max-new-tokens", 12)
    assert complete(checkpoint, "a = 1\nb = [", "--suffix", "]\nc = 3\n", *short) == (0, text, "")
    assert complete(checkpoint, "--file", file, "--line", 2, "--column", 6, *short) == (0, text, "")
    assert complete(checkpoint, "-", *short, stdin="a = 1\nb = [<CURSOR>]\nc = 3\n") == (0, text, "")
    (at_end,) = expected(checkpoint, infilling("a = 1\nb = []", "\nc = 3\n"))
    assert complete(checkpoint, "--file", file, "--line", 2, *short) == (0, at_end, "")
    (whole,) = expected(checkpoint, lambda tokenizer: tokenizer.encode(file.read_text()))
    assert complete(checkpoint, "--file", file, *short) == (0, whole, "")


def test_samples_follow_the_seed_and_are_told_apart(complete, checkpoint):
    options = ("--temperature", 1, "--top-k", 50, "--top-p", 0.9, "-n", 2, "--seed", 5, "--max-new-tokens", 12)
    texts = expected(
        checkpoint, lambda t: t.encode(PROMPT), temperature=1.0, top_k=50, top_p=0.9, seed=5, num_samples=2
    )
    code, out, _ = complete(checkpoint, PROMPT, *options)
    assert code == 0
    assert out == "".join(f"--- {i + 1} of 2 ---\n{text}\n" for i, text in enumerate(texts))
    assert complete(checkpoint, PROMPT, *options[:-4], "--seed", 6, *options[-2:])[1] != out


def test_a_stop_string_ends_a_completion_before_it(complete, checkpoint):
    (text,) = expected(checkpoint, lambda tokenizer: tokenizer.encode(PROMPT))
    stop = text[5:8].replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    code, out, _ = complete(checkpoint, PROMPT, "--max-new-tokens", 12, "--stop", stop)
    assert (code, out) == (0, text[: text.index(text[5:8])])


def test_the_model_sees_the_end_of_a_long_prompt_if_asked(complete, checkpoint):
    long = "x = 1\n" * 60
    (text,) = expected(checkpoint, lambda tokenizer: tokenizer.encode(long)[-20:])
    assert complete(checkpoint, long, "--context", 20, "--max-new-tokens", 12) == (0, text, "")


def test_the_context_is_shared_by_both_sides_of_the_cursor(recipe, tokenizer):
    def ids(prefix, suffix):
        place = recipe.Place("a" * prefix, "b" * suffix)
        return len(recipe.prompt_ids(tokenizer, place, 20)) - 3

    assert ids(400, 400) == 20
    assert ids(400, 1) == 20
    assert ids(1, 400) == 20


REFUSED = {
    "no checkpoint": (["/nowhere", "x"], "there is no checkpoint at /nowhere"),
    "no such file": (["CHECKPOINT", "--file", "/nowhere.py"], "/nowhere.py cannot be read: No such file"),
    "no such line": (["CHECKPOINT", "--file", "FILE", "--line", "9"], "has 3 lines; --line is 9"),
    "no such column": (["CHECKPOINT", "--file", "FILE", "--line", "1", "--column", "9"], "has 5 characters"),
    "two marks": (["CHECKPOINT", "<CURSOR><CURSOR>"], "has 2 marks <CURSOR>; leave one"),
    "empty stop string": (["CHECKPOINT", "x", "--stop", ""], "a stop string is empty"),
    "top_p": (["CHECKPOINT", "x", "--top-p", "1.5"], "top_p is 1.5; it must be above 0 and at most 1"),
    "temperature": (["CHECKPOINT", "x", "--temperature", "-1"], "temperature is -1.0"),
    "device": (["CHECKPOINT", "x", "--device", "gpu"], "--device is 'gpu': say auto, cpu, cuda"),
    "no infilling": (["PLAIN", "word1 = ", "--suffix", "3"], "no fill-in-the-middle tokens"),
    "samples alike": (["CHECKPOINT", "x", "-n", "2"], "gives the same completion each time"),
    "column alone": (["CHECKPOINT", "--file", "FILE", "--column", "2"], "--column needs --line"),
    "line of a prompt": (["CHECKPOINT", "x", "--line", "2"], "--line and --column need --file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_completed_is_refused_in_one_sentence(complete, checkpoint, without_fim, tmp_path, name):
    arguments, sentence = REFUSED[name]
    (tmp_path / "code.py").write_text("a = 1\nb = 2\n")
    paths = {"CHECKPOINT": checkpoint, "FILE": tmp_path / "code.py", "PLAIN": without_fim}
    code, out, err = complete(*(paths.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, "")
    assert sentence in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_prompt_longer_than_the_model_is_refused(complete, tokenizer, tmp_path):
    positions = {"learned_pos_emb": True, "attn_config": {"alibi": False}}
    short = _checkpoint(tokenizer.path, tokenizer.vocab_size, tmp_path / "short", **positions)
    code, out, err = complete(short, "x = 1\n" * 60)
    assert (code, out) == (2, "")
    assert "the model's length is 64" in err


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _streamed(recipe, monkeypatch, tokenizer, text, **options):
    """What the terminal shows after each token of a text, and in the end."""
    monkeypatch.setattr(sys, "stdout", terminal := _Terminal())
    args = SimpleNamespace(profile="none", stop=[], samples=1)
    vars(args).update(options)
    writer = recipe.Writer(tokenizer, args)
    ids = tokenizer.encode(text)
    shown = []
    for end in range(1, len(ids) + 1):
        stopped = writer.write(0, ids[:end])
        shown.append(terminal.getvalue())
        if stopped:
            break
    writer.finish(0, ids[:end], "stop")
    return shown, terminal.getvalue()


def test_a_terminal_shows_each_token_but_no_half_characters(recipe, monkeypatch, tokenizer):
    text = "naïve = '🙂 ✓'\nreturn x"
    assert len(tokenizer.encode("🙂")) > 1
    shown, final = _streamed(recipe, monkeypatch, tokenizer, text)
    assert final == text + "\n"
    assert all(text.startswith(part) for part in shown)
    assert len(set(shown)) > 8


def test_several_samples_are_written_in_their_order_whichever_ends_first(recipe, capsys, tokenizer):
    writer = recipe.Writer(tokenizer, SimpleNamespace(profile="none", stop=[], samples=3))
    for place in (2, 0, 1):
        writer.finish(place, tokenizer.encode(f"x{place}"), "eos")
    assert capsys.readouterr().out == "".join(f"--- {n + 1} of 3 ---\nx{n}\n" for n in range(3))


def test_a_terminal_never_shows_what_the_stop_rules_take_away(recipe, monkeypatch, tokenizer):
    shown, final = _streamed(recipe, monkeypatch, tokenizer, "a = 1\nENDING b", stop=["ENDING"])
    assert final == "a = 1\n\n"
    assert all("a = 1\n".startswith(part) for part in shown)
    shown, final = _streamed(recipe, monkeypatch, tokenizer, "redefine = 1\n    return x", profile="model-card")
    assert final == "redefine = 1\n"
    assert all("redefine = 1".startswith(part) for part in shown)


def test_a_real_terminal_gets_the_prompt_dimmed_and_then_the_completion(checkpoint):
    (text,) = expected(checkpoint, lambda tokenizer: tokenizer.encode(PROMPT))
    master, slave = pty.openpty()
    command = [sys.executable, str(RECIPE), str(checkpoint), PROMPT, "--max-new-tokens", "12"]
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    subprocess.run(command, stdout=slave, stderr=subprocess.PIPE, check=True, timeout=120, env=environment)
    os.close(slave)
    out = os.read(master, 1 << 16).decode().replace("\r\n", "\n")
    os.close(master)
    assert out == f"\033[2m{PROMPT}\033[0m{text}\n"
