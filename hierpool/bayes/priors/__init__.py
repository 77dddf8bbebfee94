"""Priors as plain data: defaults, the user's own, and their meaning."""
