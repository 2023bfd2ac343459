"""What HTTP and RPC have in common: who is calling, joining, log-outs, problems, health."""
