"""What is asked of predictions: each folder is one analysis, with its figures and its files."""
