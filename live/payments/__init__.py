"""Payment providers behind one port, and the worker that finishes what others left."""
