"""What the residuals of a fit say, beside those of simulated responses."""
