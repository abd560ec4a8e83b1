"""PostgreSQL, Redis and Docker: clients, snapshots, and what is done while one of them is away."""
