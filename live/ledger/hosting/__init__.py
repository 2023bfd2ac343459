"""Shows, offers, products, orders, bans, log-outs as staff writes them; who did what."""
