"""How well a fit predicts rows and groups that it has not seen."""
