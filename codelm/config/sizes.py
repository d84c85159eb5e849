"""The named sizes of the architecture: `3b` is replit-code-v1-3b, the others have the shapes of llm-foundry's MPT."""

SIZES: dict[str, dict[str, int]] = {
    "125m": {"d_model": 768, "n_heads": 12, "n_layers": 12},
    "350m": {"d_model": 1024, "n_heads": 16, "n_layers": 24},
    "1b": {"d_model": 2048, "n_heads": 16, "n_layers": 24},
    "3b": {"d_model": 2560, "n_heads": 32, "n_layers": 32},
}
"""Width, heads and blocks by name."""
