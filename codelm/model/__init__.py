"""The model room: replit-code-v1-3b's architecture as transformers classes, its tokenizer, generation, load and save.

Importing it registers the classes with transformers' Auto classes, see `codelm.model.registration`.
"""

from codelm.model.configuration import ReplitCodeConfig
from codelm.model.modeling import ReplitCodeForCausalLM, ReplitCodeModel
from codelm.model.registration import register
from codelm.model.tokenizer import ReplitCodeTokenizer, register_tokenizers

__all__ = ["ReplitCodeConfig", "ReplitCodeForCausalLM", "ReplitCodeModel", "ReplitCodeTokenizer"]

register()
register_tokenizers(ReplitCodeConfig)
