"""What hosts do: products, run order, offers' life, pins, announcements, chat rules; the keeper."""
