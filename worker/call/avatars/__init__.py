"""The providers of avatars: one module each, behind the interface in `provider`."""
