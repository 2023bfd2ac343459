"""The stock engine: which units are left, who holds them, until when. State is in Redis."""
