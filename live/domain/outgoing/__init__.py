"""What is told to the shop's own servers: events, endpoints, deliveries, and the rules of each."""
