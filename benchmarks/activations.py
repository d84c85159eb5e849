"""What each form of `activation_checkpointing` keeps for the backward pass and costs, and what bf16 costs, on this CPU.

    python benchmarks/activations.py [--layers 8] [--batch 2]

Prints the resident memory that a forward pass leaves behind, and the processor seconds of a forward and backward pass,
on one thread.
"""

import argparse
import gc
import time

import torch

from codelm.config.training.parallel import ActivationCheckpointingSection
from codelm.model import ReplitCodeConfig
from codelm.train.composer_model import transformer_blocks
from codelm.train.parallel.activations import checkpoint_activations
from codelm.train.parallel.initial import fresh_model
from codelm.train.parallel.memory import HostMemory

SECTIONS = {
    "false": None,
    "{every: 2}": ActivationCheckpointingSection(every=2),
    "{selective: true}": ActivationCheckpointingSection(selective=True),
    "true": ActivationCheckpointingSection(),
}
SEQ, VOCABULARY = 512, 4096


def measure(section: ActivationCheckpointingSection | None, bf16: bool, layers: int, batch: int) -> tuple[float, float]:
    """MiB kept between the passes, seconds of both."""
    config = ReplitCodeConfig(d_model=256, n_heads=4, n_layers=layers, vocab_size=VOCABULARY, max_seq_len=SEQ)
    model = fresh_model(config, 17).train()
    if section is not None:
        checkpoint_activations(model, transformer_blocks(model), section)
    ids = torch.randint(0, VOCABULARY, (batch, SEQ), generator=torch.Generator().manual_seed(0))

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            found = model(input_ids=ids, labels=ids, sequence_id=torch.zeros_like(ids), use_cache=False).loss
        assert found is not None
        return found

    memory = HostMemory()
    loss().backward()
    gc.collect()
    before = memory.held()
    waiting = loss()
    kept = memory.held() - before
    waiting.backward()
    seconds = []
    for _ in range(3):
        began = time.process_time()
        loss().backward()
        seconds.append(time.process_time() - began)
    return kept / 2**20, min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for name, section in SECTIONS.items():
        kept, seconds = measure(section, False, given.layers, given.batch)
        print(f"{name:20} {kept:7.0f} MiB {seconds:7.2f} s", flush=True)
    _, seconds = measure(None, True, given.layers, given.batch)
    print(f"{'false, bf16':20} {'':11} {seconds:7.2f} s", flush=True)


if __name__ == "__main__":
    main()
