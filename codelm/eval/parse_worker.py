"""Parses what a model wrote, in a process that may die of it: `python -m codelm.eval.parse_worker LIMITS`.

Each line in is `[language, text]`; out come `null` when the language's parser is loaded, and whether the text parses.
"""

import json
import resource
import sys
from typing import Any

from codelm.eval.parsing import is_well_formed, parser_of


def main() -> None:
    """Answer until there are no more questions."""
    cpu_seconds, memory_bytes = json.loads(sys.argv[1])
    answers, sys.stdout = sys.stdout, sys.stderr  # no parser's words among the answers

    def say(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    for line in sys.stdin:
        language, text = json.loads(line)
        _limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
        _limit(resource.RLIMIT_CPU, resource.RLIM_INFINITY)
        parser_of(language)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + cpu_seconds) + 1)
        _limit(resource.RLIMIT_AS, _address_space() + memory_bytes)
        say(None)
        try:
            answer = is_well_formed(language, text)
        except MemoryError:
            answer = "memory"
        say(answer)


def _limit(what: int, soft: int) -> None:
    resource.setrlimit(what, (soft, resource.getrlimit(what)[1]))


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
