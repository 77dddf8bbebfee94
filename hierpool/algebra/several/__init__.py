"""Several factors: a plan of elimination, a sparse factorisation, and what reads it."""
