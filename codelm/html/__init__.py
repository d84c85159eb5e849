"""Pages that need nothing else: HTML and SVG without a script, a font or a file from elsewhere, in light and dark."""
