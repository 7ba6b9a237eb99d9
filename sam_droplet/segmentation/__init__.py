"""From an image to masks; with training, the only importer of torch."""
