"""What goes with an order: its bill, its parcels, its place at the shop's own checkout."""
