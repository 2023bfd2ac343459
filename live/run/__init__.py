"""The command line and the processes of a service."""
