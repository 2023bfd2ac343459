"""A client that is in: what its commands mean, what it may do, within which limits."""
