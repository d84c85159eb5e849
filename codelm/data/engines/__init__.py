"""Who runs the stages: this machine, Ray, Slurm."""
