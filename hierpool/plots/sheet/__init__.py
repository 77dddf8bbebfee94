"""Layout, style, texts and lines that the figures share."""
