"""Programs that attack the machine rather than the verdict; each says what it managed to do, so that tests can look.

`{place}` is a folder that no program may reach, `{port}` a listening TCP port, `{victim}` the id of a process outside.
"""

HOSTILE = {
    "forks 400 times": "import os\nfor _ in range(400):\n    try: os.fork()\n    except OSError: pass\n",
    "forks and leaves": "import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        os.setsid()\n"
    "        time.sleep(1000)\nos._exit(0)\n",
    "allocates 4 GiB": "x = bytearray(4 << 30)\n",
    "prints 200 MB": "for _ in range(200): print('x' * (1 << 20), flush=True)\n",
    "prints 200 MB on stderr": "import os\nfor _ in range(200): os.write(2, b'x' * (1 << 20))\n",
    "kills everything": "import os\nos.kill(-1, 9)\n",
    "kills its parent": "import os\nos.kill(os.getppid(), 9)\n",
    "stops its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n",
    "kills a process outside": "import os\nos.kill({victim}, 9)\n",
    "kills its process group": "import os, signal\nos.killpg(0, signal.SIGKILL)\n",
    "signals through a pidfd": "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open({victim}), 9)\n",
    "traces a process outside": "import ctypes\nassert ctypes.CDLL(None).ptrace(16, {victim}, 0, 0) == 0\n",
    "limits a process outside": "import resource\nresource.prlimit({victim}, resource.RLIMIT_CPU, (0, 0))\n",
    "writes outside": "open('{place}/escaped', 'w').write('x')\n",
    "appends outside": "open('{place}/secret', 'a').write('x')\n",
    "truncates outside": "import os\nos.truncate('{place}/secret', 0)\n",
    "renames outside": "import os\nos.rename('{place}/secret', '{place}/gone')\n",
    "deletes outside": "import os\nos.unlink('{place}/secret')\n",
    "changes modes outside": "import os\nos.chmod('{place}/secret', 0o777)\n",
    "changes times outside": "import os\nos.utime('{place}/secret', (0, 0))\n",
    "links from outside": "import os\nos.link('{place}/secret', 'mine')\nopen('mine', 'a').write('x')\n",
    "writes through a symlink": "import os\nos.symlink('{place}/secret', 'mine')\nopen('mine', 'a').write('x')\n",
    "makes a device": "import os, stat\nos.mknod('zero', 0o666 | stat.S_IFCHR, os.makedev(1, 5))\n",
    "writes its answers' benchmark": "open('{package}', 'a').write(' ')\n",
    "leaves a trap in its folder": "import os\nos.symlink('{place}', 'trap')\nos.makedirs('a/b')\n"
    "os.symlink('{place}', 'a/b/trap')\nos.chmod('a/b', 0)\nos.chmod('a', 0)\nos.chmod('.', 0)\n",
    "digs 3000 folders deep": "import os\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\n",
    "ignores SIGTERM": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(1000)\n",
    "ignores every signal": "import signal, time\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nwhile True: pass\n",
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n",
    "leaves a daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    "        for fd in range(256):\n            try: os.close(fd)\n            except OSError: pass\n"
    "        while True: time.sleep(1)\n    os._exit(0)\n",
    "spins on 8 processes": "import os\nfor _ in range(3): os.fork()\nwhile True: pass\n",
    "recurses in C": "import sys\nsys.setrecursionlimit(1 << 30)\ndef g(): return [*map(lambda _: g(), [0])]\ng()\n",
    "fills the disk with one file": "f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20))\n",
    "fills the disk with small files": "i = 0\nwhile True:\n    open(str(i), 'wb').write(bytes(1 << 20))\n    i += 1\n",
    "makes files without end": "i = 0\nwhile True:\n    open(str(i), 'w').close()\n    i += 1\n",
    "opens files without end": "keep = []\nwhile True: keep.append(open('/dev/null'))\n",
    "memory in anonymous files": "import os\nkeep = []\nfor _ in range(100):\n    fd = os.memfd_create('m')\n"
    "    os.write(fd, bytes(1 << 20))\n    keep.append(fd)\n",
    "shared memory": "from multiprocessing import shared_memory\nshared_memory.SharedMemory('codelm', True, 1 << 20)\n",
    "a System V segment": "import ctypes\nassert ctypes.CDLL(None).shmget(4242, 4096, 0o1666) >= 0\n",
    "a new namespace": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0\n",
    "an io_uring": "import ctypes\nassert ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(120)) >= 0\n",
    "TCP": "import socket\nsocket.create_connection(('127.0.0.1', {port}))\n",
    "UDP": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))\n",
    "an abstract socket": "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0codelm-test-{victim}')\n",
    "executes a shell": "import os\nos.system('touch {place}/escaped')\nassert not os.system('true')\n",
    "reads a secret file": "print(open('{place}/secret').read())\nraise SystemExit('read')\n",
}
"""Each must leave the machine as it was; some pass as programs (they define `f`), which is their own affair."""

READS = {
    "a file outside": "open('{place}/secret').read()",
    "a folder outside": "__import__('os').listdir('{place}')",
    "its parent's environment": "open(f'/proc/{{__import__(\"os\").getppid()}}/environ').read()",
    "its parent's memory": "open(f'/proc/{{__import__(\"os\").getppid()}}/mem', 'rb').read(1)",
    "its parent's command line": "open(f'/proc/{{__import__(\"os\").getppid()}}/cmdline').read()",
    "every process": "[p for p in __import__('os').listdir('/proc') if p.isdigit()]",
    "the benchmark's answers": "open('{package}', 'rb').read(4)",
    "another program's folder": "__import__('os').listdir('{siblings}')",
    "the tests in its own memory": "[s for o in __import__('gc').get_objects() for s in"
    " __import__('gc').get_referents(o) if isinstance(s, str) and ''.join(['CAN', 'ARY']) in s][0]",
    "a secret in its environment": "[v for v in __import__('os').environ.values() if 'CANARY' in v][0]",
}

TOGETHER = {
    "prints while it fills the disk": (
        "output",
        "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        while True:\n"
        "            os.write(1, b'.')\n            time.sleep(0.005)\n"
        "for i in range(96):\n    open(str(i), 'wb').write(bytes(1 << 20))\n"
        "time.sleep(1000)\n",
    ),
    "4 children of 100 MB": (
        "memory",
        "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        keep = b'x' * (100 << 20)\n"
        "        time.sleep(1000)\ntime.sleep(1000)\n",
    ),
    "4 children map 100 MB of shared memory": (
        "memory",
        "import mmap, os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        keep = mmap.mmap(-1, 100 << 20)\n"
        "        keep.write(b'x' * (100 << 20))\n        time.sleep(1000)\ntime.sleep(1000)\n",
    ),
    "20 children spin": (
        "cpu",
        "import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        while True: pass\ntime.sleep(1000)\n",
    ),
    "children spin one after another": (
        "cpu",
        "import os, time\nfor _ in range(60):\n    if os.fork() == 0:\n        end = time.process_time() + 0.02\n"
        "        while time.process_time() < end: pass\n        os._exit(0)\n    os.wait()\ntime.sleep(1000)\n",
    ),
}
"""What no limit of a single process bounds, and the verdict on it within 256 MiB, little CPU time and 64 MiB of files;
all sleep at last, so that they are stopped for what they took, not for the time."""
