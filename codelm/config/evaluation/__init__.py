"""The sections of an evaluation's YAML, a subject a module; `codelm.config.eval` puts them together."""
