"""What a fit says of each group: shrinkage, and posterior means beside BLUPs."""
