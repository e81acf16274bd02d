"""Decisions: what is so, why, and what to do about it. Pure functions of what was seen."""
