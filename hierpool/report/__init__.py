"""The page of a study: plain tables, sentences and figures to one self-contained HTML file."""
