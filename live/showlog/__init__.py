"""The logs of a show's channels in Redis: append, state, figures, recovery, presence."""
