"""Pixels without any model: reading images, masks, tiles, synthetic micrographs."""
