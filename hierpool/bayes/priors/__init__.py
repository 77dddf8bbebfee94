"""Priors as plain data: defaults, the user's own, and what they mean."""
