"""OpenAI's Realtime API, as OpenAI's reference describes it (platform.openai.com/docs/api-reference/realtime).

One WebSocket is one session: `connection` answers the client's events, `conversation` holds the items, and
`voice_activity` detects turns.
"""
