"""Publications to the connections of this process: hub, topics, cohorts."""
