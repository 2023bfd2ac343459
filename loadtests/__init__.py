"""Load tests: Locust users that speak to a running server over real WebSockets."""
