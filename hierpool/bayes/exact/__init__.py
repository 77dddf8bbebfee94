"""The exact engine: theta by independence sampling, coefficients integrated out."""
