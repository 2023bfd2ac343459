"""The audit, and the repair of what it finds."""
