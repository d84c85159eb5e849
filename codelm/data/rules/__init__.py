"""Which files are kept: languages, linguist’s rules, bounds on texts."""
