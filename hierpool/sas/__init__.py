"""PROC MIXED of SAS, read: the model that it asks for, and what it wants to know of the fit."""
