"""Models whose response is not Gaussian: levels of one factor integrated by quadrature."""
