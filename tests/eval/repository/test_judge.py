"""Completions judged in throw-away copies, by exactly the covering tests."""

import pytest

from codelm.eval.repository import outcome
from codelm.eval.repository.judge import RepositoryJudge


@pytest.fixture(scope="module")
def judge(built):
    with RepositoryJudge(built.folder, workers=1) as judge:
        yield judge


@pytest.fixture
def verdict(judge):
    """The verdict on a text in the place of the body of `total`."""

    def judged(text):
        (item,) = (item for item in judge.benchmark.executable if item.id == "shop/money.py::total:body")
        ((verdict),) = judge.judge([item.job(text)])
        return verdict

    return judged


def test_every_reference_passes(judge):
    verdicts = judge.judge([item.job(item.gold) for item in judge.benchmark.executable])
    assert {verdict.kind for verdict in verdicts} == {"passed"}
    assert {verdict.judge for verdict in verdicts} == {"in_process"}


def test_another_correct_body_passes(verdict):
    assert verdict(
        "    if min(prices) < 0:\n        raise ValueError\n    return rounded(sum(prices) * (1 - discount))\n"
    ).passed


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("    return 6\n", "failed"),
        ("    return (\n", "failed"),
        ("    import os\n    os._exit(0)\n", "never-finished"),
        ("    import os\n    os.kill(os.getpid(), 11)\n", "crashed"),
        ("    import os, signal\n    os.kill(-1, signal.SIGKILL)\n", "failed"),
        ("    while True:\n        pass\n", "cpu"),
        (
            "    import os, time\n    for _ in range(20):\n        if os.fork() == 0:\n            while True: pass\n"
            "    time.sleep(1000)\n",
            "cpu",
        ),
        (
            "    import time\n    for i in range(400):\n        open(str(i), 'wb').write(bytes(1 << 20))\n"
            "    time.sleep(1000)\n",
            "output",
        ),
        ("    print('x' * 50_000_000, flush=True)\n    import time\n    time.sleep(5)\n", "failed"),
        ("    import sys\n    sys.exit(0)\n", "failed"),
        ("    import pytest\n    pytest.exit('fine', 0)\n", "failed"),
        ("    import pytest\n    pytest.skip('fine')\n", "failed"),
        ("    import socket\n    socket.socket()\n", "failed"),
    ],
)
def test_what_is_wrong_never_passes(verdict, body, kind):
    assert verdict(body).kind == kind


def test_the_memory_of_all_its_processes_is_bounded(verdict, monkeypatch):
    monkeypatch.setattr(outcome, "_MEMORY", 1 << 29)
    body = (
        "    import os, time\n    for _ in range(6):\n        if os.fork() == 0:\n"
        "            kept = b'x' * (100 << 20)\n            time.sleep(1000)\n    time.sleep(1000)\n"
    )
    assert verdict(body).kind == "memory"


@pytest.mark.parametrize(
    "ruin",
    [
        "    open('tests/test_money.py', 'w').write('def test_total(): pass')\n"
        "    open('conftest.py', 'w').write('raise SystemExit')\n"
        "    shutil.rmtree('shop')\n"
        "    os.symlink('/etc', 'shop')\n",
        "    os.makedirs('out/deep')\n    os.chmod('out', 0)\n    os.chmod('shop', 0)\n    os.chmod('.', 0o500)\n",
    ],
    ids=["files", "folders"],
)
def test_nothing_that_a_completion_does_to_its_copy_outlives_it(verdict, ruin):
    assert verdict(f"    import os, shutil\n{ruin}    return 6\n").kind == "failed"
    assert verdict("    return 6\n").kind == "failed"
    good = (
        "    import os\n    os.makedirs('out', exist_ok=bool(discount or min(prices) < 0))\n"
        "    if min(prices) < 0:\n        raise ValueError\n    return rounded(sum(prices) * (1 - discount))\n"
    )
    assert verdict(good).passed
    assert verdict(good).passed


def test_the_reference_is_out_of_reach(verdict, shop):
    """Neither in the original, nor compiled, nor in the copy that workers are made of."""
    thief = (
        "    import glob, marshal, os\n"
        f"    places = [{str(shop / 'shop/money.py')!r}]\n"
        "    places += glob.glob('shop/__pycache__/money*') + glob.glob('../**/money*', recursive=True)\n"
        "    for place in places:\n"
        "        try:\n"
        "            if b'discount' in open(place, 'rb').read() and os.path.abspath(place) != __file__:\n"
        "                os.write(1, b'STOLEN')\n"
        "                os._exit(3)\n"
        "        except OSError:\n"
        "            continue\n"
        "    return 0\n"
    )
    found = verdict(thief)
    assert found.kind == "failed", found
