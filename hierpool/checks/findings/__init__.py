"""Findings of rows, responses, draws, variances and comparisons, in sentences."""
