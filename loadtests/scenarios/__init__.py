"""Scenarios: each is a locustfile of its own and says which traffic it imitates."""
