"""What buyers do: hold, check out, wait."""
