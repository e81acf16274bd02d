"""The gateway: one request that ends with the declared agent in the caller's room, or with a clear reason why not."""
