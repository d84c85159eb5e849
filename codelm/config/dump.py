"""A configuration → YAML that loads again to the same configuration."""

import yaml

from codelm.config.fields import Section
from codelm.config.source import omegaconf_scalars


class _Dumper(yaml.SafeDumper):
    """Quotes every text that OmegaConf would not read as text."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = {
    **yaml.SafeDumper.yaml_implicit_resolvers,
    **{
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *pairs]
        for first, pairs in omegaconf_scalars({}).items()
    },
}


def resolved_yaml(config: Section) -> str:
    """All keys of a configuration, defaults included, as YAML; `${` in a text is escaped."""
    return yaml.dump(_escaped(config.model_dump()), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _escaped(value: object) -> object:
    if isinstance(value, dict):
        return {key: _escaped(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_escaped(child) for child in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value
