"""What simulates data and fits again: calibration, recovery, sensitivity."""
