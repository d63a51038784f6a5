"""Predict the group-level fMRI response of human visual cortex to images and movies."""

__version__ = "0.1.0"
