"""Orders as they are read, and what is done to them after the sale."""
