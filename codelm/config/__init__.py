"""What a run is: one YAML file, validated before anything heavy is imported."""

from codelm.config.data import DataConfig
from codelm.config.dump import resolved_yaml
from codelm.config.eval import EvalConfig
from codelm.config.load import load_config
from codelm.config.schema_json import json_schema
from codelm.config.train import TrainConfig

__all__ = ["DataConfig", "EvalConfig", "TrainConfig", "json_schema", "load_config", "resolved_yaml"]
