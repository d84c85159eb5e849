"""How weights move: optimizers, learning rates over a run, gradients measured and clipped."""
