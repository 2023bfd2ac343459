"""Pure rules of a live sale: no await, no clock, no socket. Imported by all, imports none."""
