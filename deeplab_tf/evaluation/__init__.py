"""Scores of predictions, and what they are made of."""
