"""For development: servers from wheels, sample data, the demonstration."""
