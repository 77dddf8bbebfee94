"""Optima: REML and ML fits, BLUPs and their inference."""
