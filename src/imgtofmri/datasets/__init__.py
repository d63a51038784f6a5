"""Loaders of published measured data."""
