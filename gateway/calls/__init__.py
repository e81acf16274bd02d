"""Calls from their request to their end."""
