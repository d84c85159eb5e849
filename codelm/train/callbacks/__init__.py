"""What runs beside training: progress, the metrics file, the guard against NaN, code evaluation."""
