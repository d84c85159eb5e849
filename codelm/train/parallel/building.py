"""A model on every rank, whole or ready to be sharded."""

from composer.utils import dist
from transformers import PreTrainedModel

from codelm.config.model import HfCausalLMSection, ReplitCodeSection
from codelm.config.train import TrainConfig
from codelm.tokenizer import Tokenizer
from codelm.train.adapters import add_adapters
from codelm.train.models import build_model, replit_code_config
from codelm.train.parallel.initial import shapes_only, without_memory


def build_on_ranks(config: TrainConfig, tokenizer: Tokenizer) -> PreTrainedModel:
    """The model of this rank: whole, or under FSDP shapes alone where the weights come once it is sharded.

    A fresh model of ours has shapes alone on every rank; any other is whole in the host's memory of rank 0.
    """
    fresh = isinstance(config.model, ReplitCodeSection) and config.load_path is None
    if config.fsdp_config is None or (dist.get_global_rank() == 0 and not fresh):
        return build_model(config, tokenizer)
    return build_shell(config, tokenizer)


def build_shell(config: TrainConfig, tokenizer: Tokenizer) -> PreTrainedModel:
    """The run's model without values, for weights to be put into."""
    section = config.model
    if isinstance(section, ReplitCodeSection):
        model = shapes_only(replit_code_config(section, config.max_seq_len, tokenizer), config.seed)
        if section.peft_config is not None:
            without_memory(lambda: add_adapters(model, section, str(config.load_path), config.seed))
        return model
    assert isinstance(section, HfCausalLMSection)
    unread = {"model": section.model_copy(update={"pretrained": False}), "load_path": None}
    return without_memory(lambda: build_model(config.model_copy(update=unread), tokenizer))
