"""Feature extractors: frozen networks that turn images into features."""
