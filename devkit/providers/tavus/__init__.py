"""A simulated Tavus: conversations over its HTTP API, and an avatar that joins the LiveKit room of the request."""
