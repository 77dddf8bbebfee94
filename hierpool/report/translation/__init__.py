"""The model of a fit in the syntax of R packages and of SAS."""
