"""What a model is trained on: sources → documents → filters → tokens → shards → mixture → stream."""
