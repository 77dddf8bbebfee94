"""Answers from a fit: predictions for new rows, contrasts, ranks."""
