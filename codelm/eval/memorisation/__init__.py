"""What a model says of its training data by heart: files by their beginnings, and secrets planted for the purpose."""
