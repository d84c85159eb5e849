"""The model room: replit-code-v1-3b's architecture as transformers classes, its tokenizer, generation, load and save.

Importing it registers the classes with transformers' Auto classes under `model_type: replit_code`.
"""

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from codelm.model.configuration import ReplitCodeConfig
from codelm.model.modeling import ReplitCodeForCausalLM, ReplitCodeModel
from codelm.model.tokenizer import ReplitCodeTokenizer

__all__ = ["ReplitCodeConfig", "ReplitCodeForCausalLM", "ReplitCodeModel", "ReplitCodeTokenizer"]

AutoConfig.register("replit_code", ReplitCodeConfig, exist_ok=True)
AutoModelForCausalLM.register(ReplitCodeConfig, ReplitCodeForCausalLM, exist_ok=True)
AutoTokenizer.register(ReplitCodeConfig, slow_tokenizer_class=ReplitCodeTokenizer, exist_ok=True)
