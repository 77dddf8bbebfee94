"""NUTS on the full model, by PyMC and the samplers that it knows."""
