"""Train and benchmark the embedded model."""
