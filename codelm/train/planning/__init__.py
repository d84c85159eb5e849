"""What a run will need, told without a GPU: memory, time, energy, money."""
