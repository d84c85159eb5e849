"""Two or more evaluations side by side: what changed, how sure one can be of it, what was gained and lost. No torch."""
