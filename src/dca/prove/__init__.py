"""Proof by campaign: whole lives of the program, and of everything around it, on a virtual clock."""
