"""Shows, offers, products, orders as hosts write them, and the log of who did what."""
