"""Where metrics go besides the metrics file: services and packages that may fail, which never stops a run."""
