"""The proof that a program's tests have finished: their last statement prints a nonce that no exit status stands for.

Benchmarks hold tests as the end of a program. `mark` adds the statement, with a placeholder; the nonce is drawn when
the program is judged.
"""

import re

from codelm.errors import EvaluationError

PLACEHOLDER = "@CODELM-NONCE@"

# Where the statement goes: behind all tests, or before what closes the tests' function.
_END = r"(?=%s\s*\Z)"
_CLOSED = {
    "cpp": r"\}",
    "c": r"\}",
    "rs": r"\}",
    "go": r"\}",
    "java": r"\}\s*\}",
    "rb": r"\bend\s+end",
}
_STATEMENTS = {
    "c": '    fputs("{}", stdout); fflush(stdout);\n',
    "cpp": '    std::fputs("{}", stdout); std::fflush(stdout);\n',
    "go": '\tif !t.Failed() {{ fmt.Print("{}") }}\n',
    "java": '    System.out.print("{}"); System.out.flush();\n    ',
    "js": "\nprocess.stdout.write('{}');\n",
    "php": "\nfwrite(STDOUT, '{}');\n",
    "py": "\n__import__('os').write(1, b'{}')\n",
    "r": "\ncat('{}')\n",
    "rb": "    STDOUT.syswrite('{}')\n  ",
    "rs": '    print!("{}");\n    std::io::Write::flush(&mut std::io::stdout()).unwrap();\n',
    "sh": "\nbuiltin printf '%s' '{}'\n",
    "ts": "\nrequire('node:process').stdout.write('{}');\n",
}


def mark(name: str, tests: str, where: str) -> str:
    """The tests of a toolchain's language with the statement, which prints `PLACEHOLDER`.

    Args:
        where: what they are the tests of, for the sentence when something is wrong.

    Raises:
        EvaluationError: they do not end as tests of this language do.
    """
    statement = _STATEMENTS[name].format(PLACEHOLDER)
    if name not in _CLOSED:
        return tests.rstrip() + statement
    end = re.search(_END % _CLOSED[name], tests)
    if end is None:
        raise EvaluationError(f"{where}: its tests do not end as {name} tests do; copy the file again")
    return tests[: end.start()] + statement + tests[end.start() :]
