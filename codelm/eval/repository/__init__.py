"""A benchmark made of a repository's own functions and unit tests, kept out of training by construction.

`build` tells the story: copy the repository, find out which test runs which lines (`collect`), choose functions and
what of them is masked (`candidates`, `masks`), keep what the tests can judge (`gates`), write one manifest. `guest/`
runs in the repository's own interpreter; `runner` is our side of it.
"""
