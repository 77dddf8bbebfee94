"""Fits: a posterior, or an optimum of REML, ML or least squares."""
