"""Judging whole programs of other languages: compiled and run in the sandbox, believed only by a marker with a nonce.

`toolchains` knows compilers and interpreters and finds them, `marker` puts the marker behind a benchmark's tests,
`judge` is what callers use, `worker` the process that runs programs, `samples` are programs whose verdict is known.
"""
