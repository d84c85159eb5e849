"""Where problems come from, a benchmark a module. `registry.load_benchmark` is what others call."""
