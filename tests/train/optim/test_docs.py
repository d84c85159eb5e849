"""What docs/optimizers.md shows is configuration that loads."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from codelm.config.train import TrainConfig

PAGE = (Path(__file__).parents[3] / "docs" / "optimizers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[str(number) for number in range(len(BLOCKS))])
def test_the_pages_sections_load(block: str, train_config: Callable[..., TrainConfig]) -> None:
    section = yaml.safe_load(block)
    assert section
    # Keys that are only shown with the value they have anyway are no mistake; unknown ones would be refused.
    assert train_config(**section)


def test_the_page_names_every_optimizer_and_schedule() -> None:
    properties = TrainConfig.model_json_schema()["properties"]
    names = {name for key in ("optimizer", "scheduler") for name in properties[key]["discriminator"]["mapping"]}
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == names
