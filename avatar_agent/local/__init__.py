"""Runs and checks an agent on one machine, without Kubernetes: `avatar-agent dev` and `avatar-agent check`.

It makes of a manifest what the API server and the controller make of it, by the same code: schema and rules, Secrets
and texts, and the workers' configuration and variables.
"""
