"""The algebra of a Gaussian model given theta: cross-products, factorisations, coefficients."""
