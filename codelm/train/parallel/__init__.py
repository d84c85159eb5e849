"""How a run is spread over ranks: FSDP, first weights, activation checkpointing, the microbatch size."""
