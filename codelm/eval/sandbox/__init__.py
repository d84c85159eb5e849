"""Running an untrusted program: what this machine can isolate, and how a process gives up its powers.

`kernel` speaks to Linux (Landlock, seccomp, prctl), `users` lends fresh user ids, `confine` applies all of it to the
calling process, `interpreter` says which files a Python program needs. Nothing here imports torch or transformers.
"""

from codelm.eval.sandbox.confine import LEVELS, Isolation, Limits, confine, probe

__all__ = ["LEVELS", "Isolation", "Limits", "confine", "probe"]
