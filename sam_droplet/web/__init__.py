"""The HTTP door; the only code that imports flask."""
