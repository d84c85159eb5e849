"""Where documents come from: folders, git, tables, the hub, conversations."""
