"""Decisions: the conditions of an AvatarAgent and how many workers it needs. Pure functions of observations."""
