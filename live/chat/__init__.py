"""Chat, moderation and reactions of a show."""
