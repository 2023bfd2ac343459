"""What HTTP and RPC have in common: who is calling, problems, limits, health."""
