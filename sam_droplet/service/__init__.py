"""State of a running installation: images, annotations, jobs, access. Never torch, never flask."""
