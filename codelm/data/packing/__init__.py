"""Documents to token ids to rows; and back, or out again."""
