"""A simulated Tavus: conversations over its HTTP API, and an avatar that joins the LiveKit room it is given."""
