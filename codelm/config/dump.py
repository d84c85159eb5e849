"""A configuration → YAML that loads again to the same configuration."""

import re

import yaml

from codelm.config.fields import Section
from codelm.config.source import omegaconf_scalars

_LINE_BREAKS = re.compile("[\x85\u2028\u2029\ufeff\r]")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that OmegaConf would not read as text."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_NO_DEFAULTS: dict[str, list] = {}
_Dumper.yaml_implicit_resolvers = {
    **yaml.SafeDumper.yaml_implicit_resolvers,
    **{
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *pairs]
        for first, pairs in omegaconf_scalars(_NO_DEFAULTS).items()
    },
}


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds these when it does not escape them.
    style = '"' if _LINE_BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def resolved_yaml(config: Section) -> str:
    """All keys of a configuration, defaults included, as YAML; `${` in a text is escaped."""
    return yaml.dump(_escaped(config.model_dump()), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _escaped(value: object) -> object:
    if isinstance(value, dict):
        return {key: _escaped(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_escaped(child) for child in value]
    # OmegaConf reads `\${` as `${`, and halves the backslashes before it.
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
