"""The exact engine of families: theta and coefficients by independence sampling, levels by quadrature."""
