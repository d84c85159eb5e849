"""Checkpoints: a folder for each, whole or absent, on any number of ranks; docs/checkpoints.md tells the story."""
