"""The exact engine of responses that are not Gaussian."""
