"""The demo: the product installed as a user would, and a caller who talks to the agent."""
