"""What `tools/fuzz.py` feeds to the package's readers, and how it is changed."""
