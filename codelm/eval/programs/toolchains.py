"""The compilers and interpreters of MultiPL-E's languages: what they are called, who brings them, how they are used.

The commands are those of MultiPL-E's own evaluators, but for what a sandbox needs.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from codelm.errors import EvaluationError

_SECONDS = 120


@dataclass(frozen=True)
class Toolchain:
    """How programs of a language are run.

    Attributes:
        name: MultiPL-E's for the language.
        language: a key of `codelm.languages.LANGUAGES`.
        file: what the program's file is called.
        needs: programs, each with the Debian package that brings it; the first one tells its version.
        compile, run: commands; a word that begins with `@` is one of `needs` or `library`. `compile` may be empty.
        version: arguments that make the first program tell its version.
        check: arguments with which the first program fails where the last package of `packages` is absent.
        library: a file that commands name, and the Debian package that brings it.
        environment: more of it; `{folder}` is the program's own.
    """

    name: str
    title: str
    language: str
    file: str
    needs: tuple[tuple[str, str], ...]
    run: tuple[str, ...]
    compile: tuple[str, ...] = ()
    version: tuple[str, ...] = ("--version",)
    check: tuple[str, ...] = ()
    check_package: str = ""
    library: tuple[str, str] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def packages(self) -> list[str]:
        """The Debian packages that bring all of it."""
        packages = [package for _, package in self.needs]
        packages += [self.check_package] if self.check else []
        packages += [self.library[1]] if self.library else []
        return list(dict.fromkeys(packages))


_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto", "-Xmx512m", "-Xss8m")
_TUPLES = ("/usr/share/java/javatuples.jar", "libjavatuples-java")

_TABLE = [
    Toolchain(
        "cpp", "C++", "cpp", "program.cpp", (("g++", "g++"),), ("./program",),
        ("@g++", "-std=c++17", "program.cpp", "-o", "program"),
    ),
    Toolchain(
        "c", "C", "c", "program.c", (("gcc", "gcc"),), ("./program",),
        ("@gcc", "-std=gnu17", "program.c", "-o", "program", "-lm"),
    ),
    Toolchain(
        "go", "Go", "go", "program_test.go", (("go", "golang-go"),), ("./program",),
        ("@go", "test", "-vet=off", "-c", "-o", "program", "program_test.go"), ("version",),
        environment={"GOCACHE": "{folder}/.cache", "GOPATH": "{folder}/.go", "GO111MODULE": "off", "CGO_ENABLED": "0",
                     "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOMAXPROCS": "2"},
    ),
    Toolchain(
        "java", "Java", "java", "Problem.java",
        (("javac", "default-jdk-headless"), ("java", "default-jre-headless")),
        ("@java", "-ea", *_JVM, "-cp", ".:@library", "Problem"),
        ("@javac", *(f"-J{flag}" for flag in _JVM), "-encoding", "UTF8", "-cp", "@library", "-d", ".", "Problem.java"),
        library=_TUPLES,
    ),
    Toolchain("js", "JavaScript", "javascript", "program.js", (("node", "nodejs"),), ("@node", "program.js")),
    Toolchain(
        "php", "PHP", "php", "program.php", (("php", "php-cli"),),
        ("@php", "-d", "display_errors=stderr", "program.php"),
    ),
    Toolchain("py", "Python", "python", "program.py", (("python3", "python3"),), ("@python3", "-I", "program.py")),
    Toolchain(
        "r", "R", "r", "program.R", (("Rscript", "r-base-core"),), ("@Rscript", "--vanilla", "program.R"),
        environment={"R_DEFAULT_PACKAGES": "datasets,utils,grDevices,graphics,stats,methods"},
    ),
    Toolchain(
        "rb", "Ruby", "ruby", "program.rb", (("ruby", "ruby"),), ("@ruby", "program.rb"),
        check=("-e", "require 'test/unit'; Test::Unit::AutoRunner.need_auto_run = false"),
        check_package="ruby-test-unit",
    ),
    # Its own linker may lie in a home that the C compiler, by access(2), finds closed to the program's user.
    Toolchain(
        "rs", "Rust", "rust", "program.rs", (("rustc", "rustc"),), ("./program",),
        ("@rustc", "--edition", "2021", "-A", "warnings", "-C", "link-arg=-fuse-ld=bfd", "program.rs", "-o", "program"),
    ),
    Toolchain("sh", "Bash", "shell", "program.sh", (("bash", "bash"),), ("@bash", "program.sh")),
    Toolchain(
        "ts", "TypeScript", "typescript", "program.ts", (("tsc", "node-typescript"), ("node", "nodejs")),
        ("@node", "program.js"), ("@tsc", "--target", "esnext", "--module", "commonjs", "program.ts"),
    ),
]  # fmt: skip

TOOLCHAINS = {toolchain.name: toolchain for toolchain in _TABLE}


@dataclass(frozen=True)
class Found:
    """A toolchain of this machine: commands with paths, and the first line that it says of its version."""

    toolchain: Toolchain
    compile: tuple[str, ...]
    run: tuple[str, ...]
    version: str
    programs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For the worker."""
        return {
            "name": self.toolchain.name,
            "file": self.toolchain.file,
            "compile": list(self.compile),
            "run": list(self.run),
            "environment": self.toolchain.environment,
            "programs": list(self.programs),
        }


@functools.cache
def find(name: str) -> Found:
    """Look for a language's toolchain on the PATH.

    Raises:
        EvaluationError: it is not there, naming the Debian package that brings it.
    """
    toolchain = TOOLCHAINS[name]
    programs: dict[str, str] = {}
    for program, package in toolchain.needs:
        place = shutil.which(program)
        if place is None:
            raise EvaluationError(_missing(toolchain, program, package))
        programs[f"@{program}"] = _itself(program, place)
    if toolchain.library is not None:
        programs["@library"], package = toolchain.library
        if not os.path.exists(programs["@library"]):
            raise EvaluationError(_missing(toolchain, programs["@library"], package))
    first = programs[f"@{toolchain.needs[0][0]}"]
    version = _said([first, *toolchain.version])
    if version is None:
        raise EvaluationError(f"{first} does not work here; install {toolchain.title} anew, or leave it out")
    if toolchain.check and _said([first, *toolchain.check]) is None:
        raise EvaluationError(_missing(toolchain, toolchain.check_package, toolchain.check_package))
    compile, run = (_resolved(words, programs) for words in (toolchain.compile, toolchain.run))
    places = tuple(dict.fromkeys(programs.values()))
    return Found(toolchain, compile, run, next(iter(version.splitlines()), ""), places)


def missing_packages() -> list[str]:
    """The Debian packages that bring all toolchains which are not here."""
    packages: list[str] = []
    for name, toolchain in TOOLCHAINS.items():
        try:
            find(name)
        except EvaluationError:
            packages += toolchain.packages
    return list(dict.fromkeys(packages))


def _missing(toolchain: Toolchain, what: str, package: str) -> str:
    return (
        f"{toolchain.title} programs cannot be run, for there is no {what} here: `apt install {package}` (or `make"
        " toolchains`) brings it"
    )


def _resolved(words: Sequence[str], programs: dict[str, str]) -> tuple[str, ...]:
    resolved = []
    for word in words:
        for name, place in programs.items():
            if word == name or (name == "@library" and name in word):
                word = word.replace(name, place)
        resolved.append(word)
    return tuple(resolved)


def _said(command: list[str]) -> str | None:
    """What a command prints, or None when it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, text=True, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else None


def _itself(program: str, place: str) -> str:
    """The program behind a version manager's stand-in, which needs its home: rustup's, pyenv's."""
    if program == "rustc":
        root = _said([place, "--print", "sysroot"])
        place = os.path.join(root, "bin", "rustc") if root else place
    elif program == "python3":
        place = os.path.realpath(sys.executable)
    return place
