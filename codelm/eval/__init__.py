"""What a model can do: sandbox, judge, benchmarks, post-processing profiles, statistics, files of results."""
