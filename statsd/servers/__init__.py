"""PostgreSQL, Redis and Docker: their clients, database snapshots, and outages."""
