"""What happened, for the shop's own systems: events, who wants them, and what was delivered."""
