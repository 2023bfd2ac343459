"""What hosts do: run order, offers, pins, announcements; a show's way into Redis."""
