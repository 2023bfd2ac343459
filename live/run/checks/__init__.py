"""Whether an engine answers, has finished loading, and may be relied on."""
