"""Layout, style, texts and lines that the pictures share."""
