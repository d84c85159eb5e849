"""The export room: trained models leave for other programs, checked against their source, with a model card."""
