"""The options that a repository gives pytest, without those that measure coverage, spread tests or end a run early."""

import configparser
import shlex
import tomllib
from pathlib import Path
from typing import Any

# With a value of their own unless it comes behind `=`.
_DROPPED_WITH_VALUE = (
    "-n", "--numprocesses", "--dist", "--maxprocesses", "--tx", "--cov-report", "--cov-config", "--cov-fail-under",
    "--cov-context", "--maxfail", "--durations", "--durations-min", "--junitxml", "--junit-xml", "--html", "--reruns",
    "--reruns-delay", "--basetemp", "--rootdir", "--color", "--tb", "--log-file", "--report-log", "--verbosity",
    "--timeout-method", "-r", "--session-timeout", "--capture", "--show-capture", "--randomly-seed",
)  # fmt: skip
_DROPPED = (
    "-x", "--exitfirst", "-v", "-vv", "-vvv", "-q", "-qq", "--verbose", "--quiet", "--lf", "--last-failed", "--ff",
    "--failed-first", "--nf", "--new-first", "--sw", "--stepwise", "--cov", "--cov-append", "--cov-branch",
    "--no-cov", "--no-cov-on-fail", "--showlocals", "-l", "--full-trace", "--cache-clear", "--self-contained-html",
    "--flake8", "--mypy", "--black", "--isort", "--ruff", "--pylint", "--pycodestyle", "--benchmark-only", "-s",
    "--no-header", "--no-summary", "--pdb", "--setup-show", "--trace-config",
)  # fmt: skip


def repository_options(root: Path) -> str:
    """The `addopts` of the repository's pytest configuration that a benchmark's runs keep, as one line."""
    try:
        words = shlex.split(_addopts(root))
    except (ValueError, configparser.Error, OSError):
        return ""
    kept: list[str] = []
    while words:
        word = words.pop(0)
        name, equals, _ = word.partition("=")
        if name in _DROPPED_WITH_VALUE:
            if not equals and words:
                words.pop(0)
        elif name in _DROPPED or (name[:2] in ("-n", "-r") and name[2:3] not in ("", "-")):
            if name == "--cov" and not equals and words and not words[0].startswith("-"):
                words.pop(0)
        else:
            kept.append(word)
    return shlex.join(kept)


def _addopts(root: Path) -> str:
    """From the file that pytest itself would read: the first of these, in its reference's order."""
    for name in ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"):
        path = root / name
        if path.is_file():
            return _joined(_toml(path).get("pytest", {})) if name.endswith("toml") else _ini(path, "pytest")
    tool = _toml(root / "pyproject.toml").get("tool", {}).get("pytest", {})
    if tool:
        return _joined(tool.get("ini_options", tool))
    return _ini(root / "tox.ini", "pytest") or _ini(root / "setup.cfg", "tool:pytest")


def _joined(section: dict[str, Any]) -> str:
    value = section.get("addopts", "")
    return shlex.join(map(str, value)) if isinstance(value, list) else str(value)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _ini(path: Path, section: str) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, encoding="utf-8")
    return parser.get(section, "addopts", fallback="")
