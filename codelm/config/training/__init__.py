"""The sections of a training run's YAML, a subject a module; `codelm.config.train` puts them together."""
