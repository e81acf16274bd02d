"""LiveKit's server API, connections to it, and tokens for it."""
