"""Judging untrusted programs by tests they never meet: two processes, and only literals between them.

`judge(jobs, settings)` is all that callers need. `worker`, `zygote`, `candidate` and `examiner` are the processes,
`wire` is what passes between them. Nothing here imports torch or transformers.
"""

from codelm.eval.judge.verdict import KINDS, Job, Verdict

__all__ = ["KINDS", "Job", "Verdict"]
