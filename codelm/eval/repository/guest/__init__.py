"""What runs in the interpreter of the repository's environment (Python 3.10 or newer): standard library and pytest."""
