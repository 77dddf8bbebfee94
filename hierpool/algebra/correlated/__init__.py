"""Residuals that are correlated within groups, or have sds that are estimated."""
