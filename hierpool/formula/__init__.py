"""A formula and a table to the rows and columns of a model."""
