"""Figures: boxes on pictures, plots, and figures with sliders; needs matplotlib."""
