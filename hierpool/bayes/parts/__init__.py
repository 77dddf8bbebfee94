"""Parts of theta, one file each."""
