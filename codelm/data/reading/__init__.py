"""From shards to batches: mixtures, order, local and remote shards."""
