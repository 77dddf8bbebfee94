"""Summaries of draws, of whatever they are: convergence, densities, ranks, PSIS."""
