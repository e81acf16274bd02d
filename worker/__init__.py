"""The voice agent: a livekit-agents worker that one configuration document configures.

Layers, from the top; each module imports only from layers below it:

- `worker.__main__` starts the main process.
- `worker.server` runs in the main process. It registers with LiveKit, accepts jobs while slots are free, serves the
  HTTP endpoints and drains. It imports `worker.call` to name what a call process runs, and to synthesise the greeting.
- `worker.call` runs in call processes. Each holds one call: the room, the session, the avatar.
- `worker.avatar_reports`, `worker.config`, `worker.sdk` and `worker.stages` are for both. Call processes report the
  state of their avatar through the first, both read their configuration with the second, and only the other two reach
  into private parts of livekit-agents.
- `worker.provider_reports` is for both, too: call processes report how requests to providers ended.
- `worker.avatar_limit` is for both, too: the main process passes the limit of avatars on to call processes.
- `worker.tavus_api` is for both, too: call processes create and end their conversations, and the main process ends
  those that a call process left open.
- `worker.forkserver` forks call processes, and `worker.reports` carries their reports to the main process.
  `worker.retry_after` reads how long a provider asks its client to wait.
"""
