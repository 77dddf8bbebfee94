"""Makes the nouns: text and tables become a Spec and a Design."""
