"""Find, click, measure and save droplets on micrographs."""

__version__ = "0.1.0"
