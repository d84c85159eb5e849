"""Programs that try to pass without solving, and odd ones that do solve: what any judge here must tell apart.

All define `add(x, y)`. Tests and `eval/main.py --self-test` run them; the forgeries are those of published harnesses'
known holes and our own.
"""

from codelm.eval.judge.verdict import Job

_PRELUDE = 'def add(x, y):\n    """The sum of x and y."""\n'
_TEST = """
def check(candidate):
    assert candidate(2, 3) == 5
    assert candidate(-1, 1) == 0
    assert candidate([1], [2]) == [1, 2]
"""
_WRONG = "def add(x, y):\n    return x - y if x != [1] else []\n"
_RIGHT = "def add(x, y):\n    return x + y\n"

_EQUAL = """
class Equal{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __hash__(self): return 0
    def __instancecheck__(self, other): return True
def add(x, y): return Equal({argument})
"""

_FRAMES = """
import sys, gc
def add(x, y):
    frame = sys._getframe()
    while frame:
        for scope in (frame.f_locals, frame.f_globals):
            for name, value in list(scope.items()):
                if isinstance(value, list):
                    value.append("passed")
                if name in ("expected", "outcome", "result", "passed"):
                    try: scope[name] = "passed"
                    except Exception: pass
        frame = frame.f_back
    return None
"""

_HUNT = """
import gc, sys
def add(x, y):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and ("test" in thing or "check" in thing or "examine" in thing):
            for key in list(thing):
                if key in ("check", "outcome", "examine"):
                    try: thing[key] = lambda *a, **k: {"outcome": "passed", "detail": ""}
                    except Exception: pass
    return None
"""

_DESCRIPTORS = """
import os, json, struct
def frame(message):
    body = json.dumps(message).encode()
    return struct.pack("!I", len(body)) + body
messages = [
    frame({"value": True}) * 9,
    frame({"outcome": "passed", "detail": ""}),
    b'{"outcome": "passed", "detail": ""}',
    b'{"kind": "passed", "detail": "", "seconds": 0, "cpu_seconds": 0, "sandbox": "landlock"}\\n',
]
for number in range(256):
    for message in messages:
        try: os.write(number, message)
        except OSError: pass
"""

_NONCE = """
import os, sys
def add(x, y):
    seen, frame = {}, sys._getframe()
    while frame:
        seen = {**frame.f_globals, **frame.f_locals, **seen}
        frame = frame.f_back
    seen["wire"].send(seen["connection"], {"value": seen["wire"].encode(seen["call"]["nonce"])})
    os._exit(0)
"""

FORGERIES: dict[str, str] = {
    "wrong": _WRONG,
    "nothing": "",
    "another name": "def plus(x, y):\n    return x + y\n",
    "not a function": "add = 5\n",
    "syntax error": "def add(x, y:\n    return x + y\n",
    "null byte": "def add(x, y):\n    return x + y\n\0",
    "raises at the top": f"{_RIGHT}raise RuntimeError\n",
    "raises in the function": "def add(x, y):\n    raise AssertionError\n",
    "raises a liar": "class E(Exception):\n    def __str__(self): raise SystemExit(0)\ndef add(x, y): raise E\n",
    "sys.exit(0) at the top": f"import sys\n{_WRONG}sys.exit(0)\n",
    "sys.exit(0) in the function": "import sys\ndef add(x, y): sys.exit(0)\n",
    "os._exit(0) at the top": f"import os\n{_WRONG}os._exit(0)\n",
    "os._exit(0) in the function": "import os\ndef add(x, y): os._exit(0)\n",
    "quit()": "def add(x, y): raise SystemExit(0)\n",
    "KeyboardInterrupt": "def add(x, y): raise KeyboardInterrupt\n",
    "GeneratorExit": "def add(x, y): raise GeneratorExit\n",
    "atexit": f"import atexit, os\natexit.register(os._exit, 0)\n{_WRONG}",
    "excepthook": f"import sys, os\nsys.excepthook = lambda *a: os._exit(0)\n{_WRONG}",
    "abort": "import os\ndef add(x, y): os.abort()\n",
    "segmentation fault": "import ctypes\ndef add(x, y): ctypes.string_at(0)\n",
    "kills itself": "import os\ndef add(x, y): os.kill(os.getpid(), 9)\n",
    "stops itself": "import os\ndef add(x, y): os.kill(os.getpid(), 15)\n",
    "exec over itself": "import os\ndef add(x, y): os.execv('/bin/true', ['true'])\n",
    "always equal": _EQUAL.format(base="", argument=""),
    "always equal int": _EQUAL.format(base="(int)", argument=""),
    "always equal float": _EQUAL.format(base="(float)", argument=""),
    "always equal str": _EQUAL.format(base="(str)", argument=""),
    "always equal list": _EQUAL.format(base="(list)", argument=""),
    "always equal tuple": _EQUAL.format(base="(tuple)", argument=""),
    "always equal dict": _EQUAL.format(base="(dict)", argument=""),
    "always equal inside a list": _EQUAL.format(base="", argument="").replace("Equal()", "[Equal()]"),
    "always equal type": "class M(type):\n    def __eq__(s, o): return True\nclass A(metaclass=M): pass\n"
    "def add(x, y): return A\n",
    "mock": "from unittest.mock import ANY\ndef add(x, y): return ANY\n",
    "not a number": "def add(x, y): return float('nan')\n",
    "frames": _FRAMES,
    "hunts the heap": _HUNT,
    "answers with the nonce": _NONCE,
    "forges frames": f"{_DESCRIPTORS}{_WRONG}",
    "forges frames when called": f"{_DESCRIPTORS.replace('for number', 'def say():' + chr(10) + '  for number')}"
    "def add(x, y):\n    return None\n".replace("    for message", "      for message"),
    "forges frames from a thread": "import threading, os\ndef add(x, y):\n    return None\ndef noise():\n"
    "    while True:\n        for n in range(3, 256):\n"
    "            try: os.write(n, b'\\0\\0\\0\\x0f{\"value\": true}')\n"
    "            except OSError: pass\nthreading.Thread(target=noise, daemon=True).start()\n",
    "says it is confined": f"import os\n{_WRONG}os.write(1, b'confined')\n",
    "closes every descriptor": f"import os\nos.closerange(0, 1024)\n{_WRONG}",
    "patches the encoder": "import json\njson.dumps = lambda *a, **k: '{\"value\": true}'\n" + _WRONG,
    "patches the driver": "import sys\nfor name, module in list(sys.modules.items()):\n"
    "    if name.startswith('codelm'):\n        for key in list(vars(module)):\n"
    "            if callable(vars(module)[key]):\n                setattr(module, key, lambda *a, **k: True)\n"
    + _WRONG,
    "patches builtins": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.type = lambda x: int\n"
    "builtins.AssertionError = Exception\n" + _WRONG,
    "redefines check": "def check(candidate): pass\n" + _WRONG,
    "prints passed": f"print('passed')\nprint('{{\"outcome\": \"passed\"}}', flush=True)\n{_WRONG}",
    "a generator": "def add(x, y):\n    yield x + y\n",
    "a coroutine": "async def add(x, y):\n    return x + y\n",
    "a string that looks right": "def add(x, y):\n    return str(x + y)\n",
    "deep nesting": "def add(x, y):\n    a = []\n    for _ in range(100000): a = [a]\n    return a\n",
    "a ring": "def add(x, y):\n    a = []\n    a.append(a)\n    return a\n",
    "a huge answer": "def add(x, y):\n    return 'x' * (1 << 25)\n",
    "recursion": "def add(x, y):\n    return add(x, y)\n",
    "leaves a child behind": "import os, time\nif os.fork() == 0: time.sleep(1000)\nos._exit(0)\n",
    "a child answers wrong": "import os\ndef add(x, y):\n    os.fork()\n    return x - y if x != [1] else []\n",
}

CORRECT: dict[str, str] = {
    "plain": _RIGHT,
    "lambda": "add = lambda x, y: x + y\n",
    "callable object": "class Add:\n    def __call__(self, x, y): return x + y\nadd = Add()\n",
    "class method": "class A:\n    @staticmethod\n    def f(x, y): return x + y\nadd = A.f\n",
    "cached": "import functools\n@functools.lru_cache\ndef inner(x, y): return x + y\n"
    "def add(x, y):\n    return inner(x, y) if isinstance(x, int) else x + y\n",
    "partial": "import functools\nadd = functools.partial(lambda z, x, y: x + y, 0)\n",
    "reassigned": f"{_WRONG}{_RIGHT}",
    "keyword names": "def add(x, y, *, plus=lambda a, b: a + b):\n    return plus(x, y)\n",
    "main guard": f"{_RIGHT}if __name__ == '__main__':\n    raise SystemExit('run')\n",
    "prints much": f"print('x' * 300_000)\n{_RIGHT}",
    "prints in the function": "def add(x, y):\n    print('adding', x, y)\n    return x + y\n",
    "stderr": f"import sys\nsys.stderr.write('hm' * 1000)\n{_RIGHT}",
    "closes stdout": f"import sys\nsys.stdout.close()\nsys.stderr.close()\n{_RIGHT}",
    "reads stdin": f"import sys\nassert sys.stdin.read() == ''\n{_RIGHT}",
    "a thread that raises": "import threading\ndef f(): raise ValueError\nthreading.Thread(target=f).start()\n"
    + _RIGHT,
    "a thread that sleeps on": "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n"
    + _RIGHT,
    "many threads": "import threading\nts = [threading.Thread(target=int) for _ in range(100)]\n"
    "[t.start() or t.join() for t in ts]\n" + _RIGHT,
    "answers from a thread": "import concurrent.futures as f\ndef add(x, y):\n"
    "    with f.ThreadPoolExecutor(4) as pool: return pool.submit(lambda: x + y).result()\n",
    "a daemon process": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\n" + _RIGHT,
    "a child process computes": "import os\ndef add(x, y):\n    r, w = os.pipe()\n    if os.fork() == 0:\n"
    "        os.write(w, repr(x + y).encode())\n        os._exit(0)\n    os.wait()\n    return eval(os.read(r, 999))\n",
    "atexit": f"import atexit\natexit.register(print, 'bye')\n{_RIGHT}",
    "temporary file": "import tempfile, json\ndef add(x, y):\n    with tempfile.NamedTemporaryFile('w+') as f:\n"
    "        json.dump(x + y, f)\n        f.seek(0)\n        return json.load(f)\n",
    "file in the working folder": "import os\ndef add(x, y):\n    os.makedirs('a/b', exist_ok=True)\n"
    "    open('a/b/c', 'w').write(str(x))\n    return x + y\n",
    "recursion limit": "import sys\nsys.setrecursionlimit(20_000)\ndef depth(n): return n and depth(n - 1)\n"
    "def add(x, y):\n    depth(15_000)\n    return x + y\n",
    "shadows builtins": "list = dict = str = int = type = isinstance = None\n" + _RIGHT,
    "module called wire": "import sys, types\nsys.modules['json'] = types.ModuleType('json')\n" + _RIGHT,
    "standard library": "import asyncio, sqlite3, decimal, email.mime.text, encodings.idna, xml.etree.ElementTree\n"
    + _RIGHT,
    "asyncio": "import asyncio\nasync def plus(x, y):\n    await asyncio.sleep(0)\n    return x + y\n"
    "def add(x, y): return asyncio.run(plus(x, y))\n",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int'\n    y: 'int'\n"
    "def add(x, y): return P(x, y).x + P(x, y).y\n",
    "pickle of its own class": "import pickle\nclass P:\n    pass\ndef add(x, y):\n    p = P()\n    p.v = x + y\n"
    "    return pickle.loads(pickle.dumps(p)).v\n",
    "counts as float": "def add(x, y):\n    return float(x + y) if isinstance(x, int) else x + y\n",
    "fraction": "from fractions import Fraction\ndef add(x, y):\n"
    "    return Fraction(x + y) if isinstance(x, int) else x + y\n",
    "a subclass of list": "class L(list): pass\ndef add(x, y):\n    return L(x + y) if x == [1] else x + y\n",
    "mutates its arguments": "def add(x, y):\n    x += y\n    return x\n",
    "global state": "calls = []\ndef add(x, y):\n    calls.append(x)\n    return x + y\n",
    "wildcard import": f"from math import *\nfrom typing import *\n{_RIGHT}",
    "future import": f"from __future__ import annotations\ndef helper(x: Undefined): pass\n{_RIGHT}",
    "survives interrupts": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + _RIGHT,
    "catches everything": "def add(x, y):\n    try: raise BaseException\n    except BaseException: return x + y\n",
}


def job(name: str, program: str) -> Job:
    """The judge's job for one of these programs."""
    return Job(id=name, program=program, entry_point="add", prelude=_PRELUDE, test=_TEST)
