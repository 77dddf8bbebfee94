"""Data types and text functions that all parts of hierpool use. Imports nothing else of hierpool."""
