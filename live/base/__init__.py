"""What every other package may import: errors, settings, logs, failpoints."""
