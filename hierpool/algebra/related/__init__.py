"""Designs with a factor whose levels are related by a known covariance."""
