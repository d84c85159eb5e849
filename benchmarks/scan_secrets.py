"""Recall, false alarms and speed of the secret scan, beside detect-secrets.

Three parts: detect-secrets' own test cases (their test modules are read from `--tests`, a checkout of its repository;
their top level is executed); made-up secrets of each kind put into real files of 20 languages; MB/s of CPU time on the
same files, ours and detect-secrets' (run by `--detect-secrets`, the Python of an environment that has it) with the 18
plugins and 4 filters that BigCode chose, and with all its defaults.

    python benchmarks/scan_secrets.py --corpus FOLDER --tests CHECKOUT --detect-secrets ENVIRONMENT/bin/python
"""

import argparse
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

from seeded_secrets import KINDS, LANGUAGES, line

from codelm.config.cleaning import SecretsSection
from codelm.data.secrets.scanner import Finding, Scanner

SCANNER = Scanner(SecretsSection())
PEER = """
import json, sys, time
from detect_secrets import SecretsCollection
from detect_secrets.settings import transient_settings, default_settings
paths, bigcode = json.load(open(sys.argv[1])), sys.argv[2] == "bigcode"
plugins = '''Artifactory AWSKey AzureStorageKey Cloudant DiscordBotToken GitHubToken IbmCloudIam IbmCosHmac JwtToken
Mailchimp Npm SendGrid Slack Softlayer Stripe TwilioKey'''.split()
settings = {"plugins_used": [{"name": name + "Detector"} for name in plugins]
            + [{"name": "Base64HighEntropyString"}, {"name": "HexHighEntropyString"}],
            "filters_used": [{"path": "detect_secrets.filters.heuristic." + name} for name in
            ("is_potential_uuid", "is_likely_id_string", "is_templated_secret", "is_sequential_string")]}
found = []
with (transient_settings(settings) if bigcode else default_settings()):
    started = time.process_time()
    for path in paths:
        secrets = SecretsCollection()
        secrets.scan_file(path)
        found.append([secret.secret_value for values in secrets.data.values() for secret in values])
    seconds = time.process_time() - started
json.dump({"seconds": seconds, "found": found}, sys.stdout)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder of real source files")
    parser.add_argument("--tests", type=Path, help="a checkout of detect-secrets, for its tests/plugins")
    parser.add_argument("--detect-secrets", help="the Python of an environment with detect-secrets")
    parser.add_argument("--megabytes", type=float, default=20.0, help="real code for speed and false alarms")
    parser.add_argument("--peer-megabytes", type=float, default=1.0)
    parser.add_argument("--each", type=int, default=40, help="made-up secrets of each kind")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.tests:
        print_their_tests(args.tests / "tests" / "plugins")
    files = list(real_files(args.corpus, args.seed))
    print_seeded(files, args.each, args.seed, args.detect_secrets)
    print_speed(files, args.megabytes, args.peer_megabytes, args.detect_secrets)


def real_files(corpus: Path, seed: int) -> Iterator[tuple[str, str]]:
    """Language and text of the corpus' files of 200 B to 200 kB, in an order of the seed."""
    languages = {ending: language for language, (endings, _) in LANGUAGES.items() for ending in endings}
    paths = sorted(path for path in corpus.rglob("*") if path.suffix in languages and path.is_file())
    random.Random(seed).shuffle(paths)
    for path in paths:
        if 200 <= path.stat().st_size <= 200_000:
            try:
                yield languages[path.suffix], path.read_bytes().decode()
            except UnicodeDecodeError:
                continue


# Part one: the test cases of detect-secrets.


def print_their_tests(folder: Path) -> None:
    print(f"{'detect-secrets test':<28}{'found':>12}{'kept':>12}   (secrets found, non-secrets kept)")
    totals: Counter[str] = Counter()
    for path in sorted(folder.glob("*_test.py")):
        counts: Counter[str] = Counter()
        wrong: list[str] = []
        for payload, secret in their_cases(path):
            hit = is_hit(payload, secret)
            side = "positive" if secret else "negative"
            counts[side] += 1
            counts[f"{side} right"] += hit == bool(secret)
            if hit != bool(secret):
                wrong.append(f"{'missed' if secret else 'alarm '} {payload[:100]!r}")
        totals += counts
        if counts:
            print(row(path.stem.removesuffix("_test"), counts))
            for text in sorted(set(wrong)):
                print("    ", text)
    print(row("all", totals))


def row(name: str, counts: Counter[str]) -> str:
    found = f"{counts['positive right']}/{counts['positive']}"
    kept = f"{counts['negative right']}/{counts['negative']}"
    return f"{name:<28}{found:>12}{kept:>12}"


def is_hit(payload: str, secret: str | bool | None) -> bool:
    """Whether the secret is covered, nine tenths of it; where a test names none, whether there is any finding."""
    findings = SCANNER.scan(payload)
    if not isinstance(secret, str) or secret not in payload:
        return bool(findings)
    start = payload.index(secret)
    return covered(findings, start, start + len(secret)) >= 0.9 * len(secret)


def covered(findings: list[Finding], start: int, end: int) -> int:
    return sum(max(0, min(end, finding.end) - max(start, finding.start)) for finding in findings)


def their_cases(path: Path) -> Iterator[tuple[str, str | bool | None]]:
    """Payload and what it must yield: a secret's text, True for any, None or False for nothing."""
    module = loaded(path)
    tests: list[Any] = [*vars(module).values()]
    for _ in range(2):
        tests += [member for test in tests if isinstance(test, type) for member in vars(test).values()]
    tests = [getattr(test, "__func__", test) for test in tests if not isinstance(test, MagicMock)]
    outer: Any = getattr(getattr(module, "TestHighEntropyString", None), "cases", ((), ()))
    for test in {id(test): test for test in tests}.values():
        names, cases = getattr(test, "cases", ((), ()))
        for case in cases:
            given: dict[str, Any] = dict(zip(names, case if len(names) > 1 else (case,), strict=False))
            if "format" in given and "should_be_caught" in given:
                for _, harmless, secret in outer[1]:
                    text = given["format"].format(non_secret=harmless, secret=secret)
                    yield text, secret if given["should_be_caught"] else None
            elif payload := given.get("payload", given.get("line", given.get("file_content"))):
                yield payload, given.get("should_flag", given.get("expected_secret", len(names) == 1))


def loaded(path: Path) -> ModuleType:
    """A test module with stand-ins for pytest and detect-secrets, which keep the parameters of each test."""

    def parametrize(names: str, cases: Any) -> Callable[[Any], Any]:
        def keep(test: Any) -> Any:
            function = getattr(test, "__func__", test)
            function.cases = (tuple(name.strip() for name in names.split(",")), list(cases))
            return test

        return keep

    pytest = MagicMock()
    pytest.mark.parametrize = parametrize
    pytest.fixture = lambda *args, **kwargs: args[0] if args else lambda test: test
    names = (
        "detect_secrets detect_secrets.constants detect_secrets.core detect_secrets.core.scan detect_secrets.settings"
    )
    names += " detect_secrets.core.secrets_collection detect_secrets.core.plugins detect_secrets.core.plugins.util"
    names += " detect_secrets.util detect_secrets.util.code_snippet detect_secrets.plugins responses requests"
    names += " testing testing.mocks"
    stand_ins: dict[str, Any] = {name: MagicMock() for name in names.split()} | {"pytest": pytest}
    stand_ins["responses"].activate = lambda test: test
    stand_ins |= {f"detect_secrets.plugins.{plugin}": MagicMock() for plugin in _plugins(path.parents[2])}
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise SystemExit(f"{path} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        for name, was in before.items():
            sys.modules.pop(name)
            if was is not None:
                sys.modules[name] = was


def _plugins(checkout: Path) -> list[str]:
    return [path.stem for path in (checkout / "detect_secrets" / "plugins").glob("*.py")]


# Part two: made-up secrets in real files.


def print_seeded(files: list[tuple[str, str]], each: int, seed: int, peer: str | None) -> None:
    chance = random.Random(seed)
    by_language: dict[str, list[str]] = defaultdict(list)
    for language, text in files:
        by_language[language].append(text)
    languages = [language for language in LANGUAGES if by_language[language]]
    found: Counter[str] = Counter()
    of_language: Counter[str] = Counter()
    spilled = inserted = 0
    texts: list[str] = []
    secrets: list[tuple[str, str, str]] = []
    for kind in KINDS:
        for turn in range(each):
            language = languages[turn % len(languages)]
            before = chance.choice(by_language[language])
            new, secret = line(chance, language, kind)
            lines = before.split("\n")
            at = chance.randrange(len(lines))
            text = "\n".join([*lines[:at], new, *lines[at:]])
            start = sum(len(kept) + 1 for kept in lines[:at]) + new.rindex(secret)
            findings = SCANNER.scan(text)
            right = covered(findings, start, start + len(secret)) >= 0.9 * len(secret)
            found[kind] += right
            of_language[language] += right
            there = sum(finding.end - finding.start for finding in SCANNER.scan(before))
            spilled += max(
                0, sum(f.end - f.start for f in findings) - there - covered(findings, start, start + len(secret))
            )
            inserted += len(secret)
            texts.append(text)
            secrets.append((kind, language, secret))
    theirs = peer_found(peer, texts, secrets) if peer else {}
    print(f"\nmade-up secrets, {each} of each kind, in files of {len(languages)} languages")
    print(f"{'kind':<24}{'found':>10}" + "".join(f"{name:>24}" for name in theirs))
    for kind in KINDS:
        print(
            f"{kind:<24}{found[kind] / each:>9.0%} "
            + "".join(f"{counts[kind] / each:>23.0%} " for counts in theirs.values())
        )
    every = each * len(KINDS)
    print(
        f"{'all':<24}{found.total() / every:>9.1%} " + "".join(f"{c.total() / every:>23.1%} " for c in theirs.values())
    )
    count = Counter(language for _, language, _ in secrets)
    print("by language: " + ", ".join(f"{name} {of_language[name] / count[name]:.0%}" for name in languages))
    print(f"characters redacted beside the secrets: {spilled} of {inserted} inserted")


def peer_found(python: str, texts: list[str], secrets: list[tuple[str, str, str]]) -> dict[str, Counter[str]]:
    endings = {language: endings[0] for language, (endings, _) in LANGUAGES.items()}
    # The file around the line is of no matter to detect-secrets, which reads line by line; it costs it much time.
    lines = [
        next(part for part in text.split("\n") if secret in part)
        for text, (_, _, secret) in zip(texts, secrets, strict=True)
    ]
    results = {}
    for name in ("bigcode", "defaults"):
        values = peer(
            python, [(line, endings[language]) for line, (_, language, _) in zip(lines, secrets, strict=True)], name
        )
        counts: Counter[str] = Counter()
        for got, (kind, _, secret) in zip(values["found"], secrets, strict=True):
            # Of a private key it reports the frame alone.
            counts[kind] += any(
                value and (secret in value or value in secret or kind == "private key") for value in got
            )
        results[f"detect-secrets {name}"] = counts
    return results


def peer(python: str, texts: list[tuple[str, str]], name: str) -> dict[str, Any]:
    """CPU seconds and found values of detect-secrets for each text, written to a file of the ending."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = []
        for index, (text, ending) in enumerate(texts):
            path = Path(scratch) / f"{index}{ending}"
            path.write_text(text, encoding="utf-8", newline="")
            paths.append(str(path))
        listed = Path(scratch) / "paths.json"
        listed.write_text(json.dumps(paths), encoding="utf-8")
        done = subprocess.run([python, "-c", PEER, str(listed), name], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


# Part three: speed and false alarms on real code.


def print_speed(files: list[tuple[str, str]], megabytes: float, peer_megabytes: float, python: str | None) -> None:
    ours = taken(files, megabytes * 1e6)
    size = sum(len(text.encode()) for _, text in ours) / 1e6
    seconds = float("inf")
    for _ in range(3):
        started = time.process_time()
        findings = [SCANNER.scan(text) for _, text in ours]
        seconds = min(seconds, time.process_time() - started)
    counts = Counter(finding.kind for found in findings for finding in found)
    share = sum(finding.end - finding.start for found in findings for finding in found) / (size * 1e6)
    print(f"\n{len(ours)} real files, {size:.1f} MB: {size / seconds:.1f} MB/s of CPU time")
    print(f"{counts.total() / size:.1f} findings a MB, {share:.3%} of the characters:", end=" ")
    print(", ".join(f"{kind} {count / size:.2f}" for kind, count in counts.most_common()))
    if python:
        few = taken(files, peer_megabytes * 1e6)
        size = sum(len(text.encode()) for _, text in few) / 1e6
        started = time.process_time()
        for _, text in few:
            SCANNER.scan(text)
        own = time.process_time() - started
        for name in ("bigcode", "defaults"):
            theirs = peer(python, [(text, LANGUAGES[language][0][0]) for language, text in few], name)
            found = sum(map(len, theirs["found"]))
            print(f"detect-secrets, {name}, {size:.1f} MB: {size / theirs['seconds']:.2f} MB/s,", end=" ")
            print(f"{found / size:.1f} findings a MB;", end=" ")
            print(f"codelm on the same {size / own:.1f} MB/s, {theirs['seconds'] / own:.0f} times as fast")


def taken(files: list[tuple[str, str]], limit: float) -> list[tuple[str, str]]:
    total, chosen = 0, []
    for language, text in files:
        if total >= limit:
            break
        chosen.append((language, text))
        total += len(text.encode())
    return chosen


if __name__ == "__main__":
    main()
