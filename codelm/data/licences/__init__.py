"""The licence of each file, as SPDX expressions."""
