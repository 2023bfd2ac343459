"""Composition roots: the parts put together into a gateway and into a settler."""
