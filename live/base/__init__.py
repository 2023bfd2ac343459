"""What every package may import: errors and faults, settings, JSON in, logs, failpoints."""
