"""What operators see: health, metrics, the log, and the state of the queue."""
