"""LiveKit's server API, connections to it, tokens for it, and its webhooks."""
