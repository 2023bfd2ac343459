"""Fan-out: sessions of this process, the show log, recovery, admission."""
