"""What hosts do: products, run order, offers, pins, announcements."""
