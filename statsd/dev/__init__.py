"""Development tools: servers from wheels, sample data, the demonstration."""
