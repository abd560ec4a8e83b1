"""The event stream: read as one consumer of the group; its events become jobs."""
