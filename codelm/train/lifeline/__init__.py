"""How a run ends that does not end by itself: signals, crashed ranks, hangs; docs/checkpoints.md tells the story."""
