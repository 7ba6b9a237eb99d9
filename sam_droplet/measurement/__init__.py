"""From masks to numbers and files; knows nothing of how masks were made."""
