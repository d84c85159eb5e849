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
    section = config.model
    if config.fsdp_config is None:
        return build_model(config, tokenizer)
    first = dist.get_global_rank() == 0
    if isinstance(section, ReplitCodeSection) and not (first and config.load_path is not None):
        model = shapes_only(replit_code_config(section, config.max_seq_len, tokenizer), config.seed)
        if section.peft_config is not None:
            without_memory(lambda: add_adapters(model, section, str(config.load_path), config.seed))
        return model
    if first:
        return build_model(config, tokenizer)
    assert isinstance(section, HfCausalLMSection)
    unread = {"model": section.model_copy(update={"pretrained": False}), "load_path": None}
    return without_memory(lambda: build_model(config.model_copy(update=unread), tokenizer))
