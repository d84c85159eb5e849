"""The report of a prepared corpus."""
