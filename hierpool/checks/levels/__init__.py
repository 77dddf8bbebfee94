"""Shrinkage of groups, and posterior means compared with BLUPs."""
