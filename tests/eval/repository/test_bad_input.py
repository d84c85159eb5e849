"""Repositories and environments that lack something: survived, counted, explained in one sentence."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from codelm.errors import EvaluationError
from codelm.eval.repository import manifest
from codelm.eval.repository.build import build
from codelm.eval.repository.gates import GateSettings
from codelm.eval.repository.settings import BuildSettings

QUICK = BuildSettings(repeats=1, blocks=0, statements=0, held_out=0.0, gates=GateSettings(references=1, mutants=1))
SUM = "def total(prices):\n    result = 0\n    for price in prices:\n        result += price\n    return result\n"
TEST = "from shop import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n"


@pytest.fixture
def build_of(laid_out, tmp_path):
    """Build the benchmark of a shop with one function, one good test, and more files."""

    def built(files, python=sys.executable):
        folder = laid_out(tmp_path / "shop-repository", {"shop/__init__.py": SUM, "tests/test_shop.py": TEST, **files})
        return build(str(folder), python, tmp_path / "bench", QUICK, workers=1)

    return built


def kept(built):
    _, rows = manifest.read(built.folder)
    return [row["task_id"] for row in rows if row["row"] == "function"]


def test_what_needs_a_display_or_a_plugin_is_left_out_and_the_rest_goes_on(build_of):
    built = build_of(
        {
            "pytest.ini": "[pytest]\naddopts = --needs-a-plugin\nrequired_plugins = pytest-that-is-not-there\n",
            "tests/test_window.py": """
                def test_window():
                    import tkinter

                    tkinter.Tk()

                def test_plot():
                    raise RuntimeError("cannot connect to X server")

                def test_mocked(mocker):
                    pass

                def test_a_package():
                    import package_that_nobody_has
            """,
        }
    )
    refused, failed = built.troubles
    assert refused == "pytest refuses the repository's own options (--needs-a-plugin): they were left out"
    assert failed.startswith("4 of 5 tests fail in the sandbox and are left out (2 need a display, ")
    assert "1 need a fixture that is not there" in failed
    assert "1 need a module that is not installed" in failed
    assert kept(built) == ["shop/__init__.py::total"]


@pytest.mark.slow
def test_a_plugin_that_the_options_import_and_is_absent_is_done_without(build_of):
    built = build_of({"pytest.ini": "[pytest]\naddopts = -p plugin_that_is_not_there\n"})
    said = "pytest refuses the repository's own options (-p plugin_that_is_not_there): they were left out"
    assert (built.troubles, kept(built)) == ([said], ["shop/__init__.py::total"])


@pytest.mark.slow
def test_what_pytest_cannot_start_with_is_told_in_its_own_words(build_of):
    built = build_of({"pytest.ini": "[pytest]\nminversion = 99.0\n"})
    assert len(built.troubles) == 1
    assert built.troubles[0].startswith("pytest could not list the tests (it said last: ")
    assert "requires pytest-99.0" in built.troubles[0]
    assert kept(built) == []


def test_an_environment_without_pytest_is_refused_before_anything_is_written(build_of, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    with pytest.raises(EvaluationError, match=f"--python: {python} has no pytest: run `{python} -m pip install pytest"):
        build_of({}, str(python))
    assert not (tmp_path / "bench").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_an_extension_that_was_built_in_place_comes_along(laid_out, tmp_path):
    source = """
        #define PY_SSIZE_T_CLEAN
        #include <Python.h>
        static PyObject *add(PyObject *self, PyObject *args) {
            long a, b;
            if (!PyArg_ParseTuple(args, "ll", &a, &b)) return NULL;
            return PyLong_FromLong(a + b);
        }
        static PyMethodDef methods[] = {{"add", add, METH_VARARGS, ""}, {NULL, NULL, 0, NULL}};
        static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_speedups", "", -1, methods};
        PyMODINIT_FUNC PyInit__speedups(void) { return PyModule_Create(&module); }
    """
    total = "def total(prices):\n    result = 0\n    for price in prices:\n        result = add(result, price)\n"
    files = {
        "shop/__init__.py": f"from shop._speedups import add\n\n\n{total}    return result\n",
        "shop/_speedups.c": source,
        "tests/test_shop.py": TEST,
    }
    folder = laid_out(tmp_path / "shop-repository", files)
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").exists():
        pytest.skip("needs Python's headers")
    module = folder / "shop" / f"_speedups{sysconfig.get_config_var('EXT_SUFFIX')}"
    command = ["gcc", "-shared", "-fPIC", f"-I{include}", str(folder / "shop/_speedups.c"), "-o", str(module)]
    subprocess.run(command, check=True)
    built = build(str(folder), sys.executable, tmp_path / "bench", QUICK, workers=1)
    assert (built.troubles, kept(built)) == ([], ["shop/__init__.py::total"])
