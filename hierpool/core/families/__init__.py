"""What the response is: families and their links, one file each. ``hp.families`` offers them."""
