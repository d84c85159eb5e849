"""codelm: train, fine-tune and evaluate code-completion language models on MosaicML Composer.

Importing this package loads nothing else; import the room you need (`codelm.model`, `codelm.data`, …).
"""

__version__ = "0.1.0"
