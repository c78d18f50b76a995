"""Figures of what a fit found."""
