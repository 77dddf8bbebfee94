"""Nouns and algebra: what every other part of hierpool speaks in. Imports nothing of ours above it."""
