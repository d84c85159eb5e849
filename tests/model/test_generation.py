"""Generation: our loop against transformers' `generate`, sample by sample, whatever the batch."""

from types import SimpleNamespace

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MptConfig,
    MptForCausalLM,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from codelm.errors import EvaluationError
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.generation import generate, max_length

EOS, PAD, VOCAB, LENGTH = 1, 2, 61, 48


def _llama():
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _mpt():
    return MptForCausalLM(MptConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=VOCAB, max_seq_len=LENGTH))


def _replit():
    config = ReplitCodeConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=VOCAB, max_seq_len=LENGTH)
    return ReplitCodeForCausalLM(config)


@pytest.fixture(params=[_llama, _mpt, _replit], ids=["llama", "mpt", "replit_code"])
def model(request):
    torch.manual_seed(3)
    model = request.param()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # otherwise a fresh model repeats one token
    return model.eval()


def bounded(model):
    """Whether the model has a longest sequence; ours goes on by ALiBi."""
    return not isinstance(model, ReplitCodeForCausalLM)


@pytest.fixture
def prompts():
    drawn = torch.Generator().manual_seed(5)
    return [torch.randint(3, VOCAB, (length,), generator=drawn).tolist() for length in (3, 9, 1, 17, 6, 12, 4)]


def _settings(**changed):
    return {"eos_id": EOS, "pad_id": PAD, "max_new_tokens": 20, **changed}


def _reference(model, prompt, new_tokens=20):
    """Greedy by transformers, one prompt at a time, no cache."""
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=new_tokens,
        do_sample=False,
        use_cache=False,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    tokens = output[0, len(prompt) :].tolist()
    return tokens[: tokens.index(EOS)] if EOS in tokens else tokens


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_greedy_equals_transformers_without_a_cache(model, prompts, batch_size):
    expected = [_reference(model, prompt) for prompt in prompts]
    assert len({tuple(tokens) for tokens in expected}) > 1
    assert generate(model, prompts, **_settings(batch_size=batch_size)) == expected


def test_eos_ends_a_row_and_leaves_the_others_alone(model, prompts):
    free = generate(model, prompts, **_settings(eos_id=-1))
    eos = free[3][4]
    ended = generate(model, prompts, **_settings(eos_id=eos))
    assert ended == [tokens[: tokens.index(eos)] if eos in tokens else tokens for tokens in free]
    assert {len(tokens) for tokens in ended} != {20}


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"temperature": 1.3, "top_p": 0.6}], ids=["plain", "top_p"])
def test_samples_do_not_depend_on_the_batch(model, prompts, options):
    alone = generate(model, prompts, **_settings(batch_size=1, seed=11, **options))
    together = generate(model, prompts, **_settings(batch_size=7, seed=11, **options))
    other_seed = generate(model, prompts, **_settings(batch_size=7, seed=12, **options))
    assert alone == together
    assert alone != other_seed


def test_samples_follow_the_distribution():
    class Fixed(torch.nn.Module):
        """Always the same three probabilities."""

        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.tensor([0.5, 0.3, 0.2]).log())

        def forward(self, input_ids, attention_mask, past_key_values, use_cache):
            logits = self.logits.expand(*input_ids.shape, -1)
            return SimpleNamespace(logits=logits, past_key_values=())

    def shares(**options):
        samples = generate(
            Fixed(), [[0]] * 40, eos_id=-1, pad_id=0, max_new_tokens=250, batch_size=40, temperature=1.0, **options
        )
        return torch.bincount(torch.tensor(samples).flatten(), minlength=3).div(10_000).tolist()

    assert shares() == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    assert shares(top_p=0.75) == pytest.approx([0.625, 0.375, 0.0], abs=0.02)
    assert shares(top_p=0.4) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_that_fill_up_the_output_layer_are_never_chosen(model, prompts, temperature):
    small = [[token % 5 for token in prompt] for prompt in prompts]
    options = _settings(temperature=temperature, eos_id=-1)
    assert max(max(tokens) for tokens in generate(model, small, **options)) >= 5
    assert max(max(tokens) for tokens in generate(model, small, **options, vocab_size=5)) < 5


def test_samples_of_one_prompt_differ(model, prompts):
    samples = generate(model, [prompts[1]] * 4, **_settings(temperature=1.0, eos_id=-1))
    assert len({tuple(tokens) for tokens in samples}) == 4


def test_stop_sees_the_new_tokens_and_they_stay(model, prompts):
    reasons = {}
    stopped = generate(
        model,
        prompts,
        **_settings(eos_id=-1),
        stop=lambda place, tokens: len(tokens) == 5,
        progress=lambda index, tokens, reason: reasons.update({index: (len(tokens), reason)}),
    )
    assert [len(tokens) for tokens in stopped] == [5] * len(prompts)
    assert reasons == dict.fromkeys(range(len(prompts)), (5, "stop"))


def test_the_models_length_bounds_each_sample_by_its_own_prompt(model, prompts):
    long = [prompts[3] * 2, prompts[3] * 2 + [5, 6], prompts[0], prompts[1]]
    room = LENGTH if bounded(model) else 1000
    expected = [_reference(model, prompt, min(30, room - len(prompt))) for prompt in long]
    assert generate(model, long, **_settings(max_new_tokens=30)) == expected


def test_random_state_and_mode_do_not_move(model, prompts):
    model.train()
    next(iter(model.children())).eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(7)
    before = torch.get_rng_state()
    generate(model, prompts, **_settings(temperature=1.0))
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes


def test_prompts_that_cannot_be_completed_are_refused(model):
    if bounded(model):
        assert max_length(model) == LENGTH
        with pytest.raises(EvaluationError, match=r"prompt 1 has 48 tokens, the model's length is 48"):
            generate(model, [[5], [5] * LENGTH], **_settings())
    else:
        assert max_length(model) is None
    with pytest.raises(EvaluationError, match=r"prompt 0 is empty"):
        generate(model, [[]], **_settings())


def test_a_prompt_too_long_for_the_memory_is_refused():
    with pytest.raises(EvaluationError, match=r"^there is not enough memory to read a prompt of 3,000,000 tokens: sh"):
        generate(_replit(), [[5] * 3_000_000], **_settings())


def test_a_prompt_is_read_once_for_all_its_samples(model, prompts):
    seen = []
    hook = model.get_input_embeddings().register_forward_hook(lambda module, given, _: seen.append(given[0].shape[1]))
    options = _settings(temperature=1.0, eos_id=-1, batch_size=3)
    samples = generate(model, [prompts[3], prompts[1]], num_samples=4, **options)
    hook.remove()
    assert sorted(length for length in seen if length >= 9) == [9, 17]
    assert samples == generate(model, [prompts[3]] * 4 + [prompts[1]] * 4, **options)


def test_a_model_with_another_memory_is_completed_row_by_row(prompts):
    torch.manual_seed(3)
    model = MambaForCausalLM(MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=4)).eval()
    assert generate(model, prompts[:3], **_settings(max_new_tokens=5)) == [
        _reference(model, prompt, 5) for prompt in prompts[:3]
    ]


GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": LENGTH}
HIDDEN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": LENGTH}
LLAMA_LIKE = {**HIDDEN, "intermediate_size": 48, "num_key_value_heads": 2}
ENCODER = {**HIDDEN, "intermediate_size": 48, "is_decoder": True}
DECODER = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
LONG_ROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [3.0] * 4,
    "factor": 2.0,
    "original_max_position_embeddings": 20,
}
FAMILIES = {
    "gpt2": GPT,
    "opt": {**HIDDEN, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "gpt_neo": {
        **HIDDEN,
        "num_layers": 2,
        "num_heads": 4,
        "window_size": 6,
        "attention_types": [[["global", "local"], 1]],
    },
    "gpt_neox": {**HIDDEN, "intermediate_size": 48},
    "gpt_bigcode": GPT,
    "mistral": {**LLAMA_LIKE, "sliding_window": 6},
    "gemma2": {**LLAMA_LIKE, "head_dim": 8, "sliding_window": 6},
    "qwen2": {**LLAMA_LIKE, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    # The four below cannot be run in padded batches, or not with a cache.
    "bart": {**DECODER, "max_position_embeddings": LENGTH, "is_decoder": True, "is_encoder_decoder": False},
    "roberta": {**ENCODER, "max_position_embeddings": LENGTH + 2},
    "llama": {**LLAMA_LIKE, "rope_scaling": LONG_ROPE},
    "recurrent_gemma": {**LLAMA_LIKE, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8},
}
"""Configurations that differ in how a model knows where its tokens are, and how far each looks."""


@pytest.fixture(params=FAMILIES)
def other_model(request):
    torch.manual_seed(3)
    config = CONFIG_MAPPING[request.param](vocab_size=VOCAB, pad_token_id=PAD, **FAMILIES[request.param])
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Positions that count: a fresh model hardly looks at them.
            parameter.normal_(0, 0.5) if "wpe" in name or "position" in name else parameter.mul_(2)
    return model.eval()


def _next_tokens(model, prompt, count=20):
    """Greedy with everything read anew for each token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_every_family_gives_the_tokens_of_each_prompt_alone(other_model, prompts):
    expected = [_next_tokens(other_model, prompt) for prompt in prompts]
    assert len({tuple(tokens) for tokens in expected}) > len(prompts) / 2
    for batch_size in (1, 3, 16):
        assert generate(other_model, prompts, **_settings(eos_id=-1, batch_size=batch_size)) == expected
    twice = generate(other_model, prompts, **_settings(eos_id=-1, num_samples=2))
    assert twice == [tokens for tokens in expected for _ in range(2)]


def test_prompts_read_together_give_the_same_tokens(model, prompts, monkeypatch):
    """As an accelerator does."""
    alone = generate(model, prompts, **_settings())
    monkeypatch.setattr("codelm.model.generation._prompts_at_once", lambda device, count: count)
    assert generate(model, prompts, **_settings()) == alone
