"""The simulated sale behind `live demo`."""
