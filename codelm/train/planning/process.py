"""What a training process holds before it has a model."""

import importlib

import psutil


def training_process_bytes() -> int:
    """Resident bytes once all is imported that training imports; this process imports it."""
    importlib.import_module("codelm.train.run")
    return psutil.Process().memory_info().rss
