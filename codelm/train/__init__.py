"""How a model is trained: the only room that imports Composer."""

from codelm.train.lean_imports import install

install()
