"""Maximum likelihood of responses that are not Gaussian."""
