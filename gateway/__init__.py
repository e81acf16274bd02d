"""The gateway: opens calls to agents over HTTP. Each call ends with the declared agent in the room, or with a reason.

Layers, highest first; a module imports only from lower layers:

- `__main__` runs the process.
- `app` serves the HTTP application, and `assembly` creates the gateway from its parts.
- `routes` handles the requests.
- `context` holds the parts for the handlers, `views` the response documents, `adoption` recovers calls of stopped
  gateways, and `cluster` reads from Kubernetes.
- `opening` opens calls, `access` checks who may, and `pages` serves the call page.
- `dispatcher` runs each call from its request to its end, and `callrequest` parses the request.
- `supply` exchanges demand and supply with the controller.
- `ledger` keeps the calls in memory, `connections` the LiveKit credentials, and `metrics` the counts.
- `calls` is the state machine of one call, and `livekit` the client of LiveKit's server API.
- `agents`, `errors`, `rooms`, `seats`, `settings` and `tokens` define the terms that all others use.
"""
