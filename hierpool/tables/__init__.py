"""Tables that stay where they are: files, databases, lazy frames; only sums of their rows are read."""
