"""The repository's own pytest options, as far as a benchmark's runs can have them."""

import pytest

from codelm.eval.repository.options import repository_options


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("pytest.ini", "[pytest]\naddopts = -ra -q --cov=pkg --cov-report term --import-mode=importlib\n",
         "--import-mode=importlib"),
        ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = ["-n", "auto", "--strict-config", "-m", "not slow"]\n',
         "--strict-config -m 'not slow'"),
        ("pyproject.toml", '[tool.pytest]\naddopts = ["--doctest-modules", "-p", "no:warnings"]\n',
         "--doctest-modules -p no:warnings"),
        ("setup.cfg", "[tool:pytest]\naddopts = -n4 --maxfail 1 -p mine.plugin --cov\n", "-p mine.plugin"),
        ("tox.ini", "[pytest]\naddopts = -x --ff --durations=10 --ignore=docs\n", "--ignore=docs"),
        ("pytest.ini", "[pytest]\naddopts = 'unbalanced\n", ""),
        ("pyproject.toml", "not toml [\n", ""),
        ("setup.py", "", ""),
    ],
)  # fmt: skip
def test_what_measures_coverage_or_ends_runs_early_is_left_out(tmp_path, name, text, kept):
    (tmp_path / name).write_text(text)
    assert repository_options(tmp_path) == kept
