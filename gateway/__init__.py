"""The gateway: opens calls to agents over HTTP. Each call ends with the declared agent in the room, or with a reason.

Layers, highest first; a module imports only from lower layers:

- `__main__` runs the process, and `assembly` creates the gateway from its parts.
- `api` answers the HTTP requests: routes, documents, and who may call.
- `metrics` counts, and `web` serves the call page.
- `calls` runs each call from its request to its end. `calls.step` is its heart: a pure state machine.
- `cluster` reads AvatarAgents and Secrets, talks to the controller, and knows which gateway owns an agent.
- `livekit` is the client of LiveKit's server API, with connections, tokens and the signatures of webhooks.
- `agents`, `client`, `errors` and `settings` define the terms that all others use.
"""
