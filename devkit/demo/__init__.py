"""The demo: installs the product as a user would, and calls the agent."""
