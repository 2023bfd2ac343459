"""The viewer page and the host console, and the files they load."""
