"""Live boards: each dojo's scoreboards as sorted sets, from which other statistics follow."""
