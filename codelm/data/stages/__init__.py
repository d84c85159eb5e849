"""The stages of preparing a corpus, each of which leaves its output whole or not at all.

A stage whose output is there already does nothing, so that a run which was killed continues where it stopped.
"""
