"""Payment providers behind one port, their webhooks, and the worker that finishes payments."""
