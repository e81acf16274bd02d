"""The HTTP API: routes, documents, and who may call."""
