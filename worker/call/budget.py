"""Every time bound of a call, in seconds, and the reason for each.

A caller who hears nothing hangs up. So two of the bounds are promises, and the others follow from them:

- Within `FIRST_SOUND_SECONDS` of their last word, callers hear the reply or a prepared "one moment".
- Within `ANSWER_SECONDS` of their last word, callers hear the reply or a prepared apology.
"""

from typing import Final

# The start of a call.

CALLER_SECONDS: Final = 60.0
"""How long the agent waits in the room for its caller. A gateway gives up its room after the same time."""
RINGING_SECONDS: Final = 90.0
"""How long a telephone may ring. LiveKit's SIP service gives up after at most 80 s (`ringing_timeout`)."""
AUDIBLE_SECONDS: Final = 10.0
"""How long the greeting waits for the caller's client to subscribe to the agent's audio: a slow connection's setup."""
GREETING_SECONDS: Final = 3.0
"""How long the greeting waits for its prepared audio. After that, synthesising it again is as fast."""

# The end of a call.

REJOIN_SECONDS: Final = 10.0
"""How long a caller may take to rejoin after a reloaded page or a lost network."""
RECORD_SECONDS: Final = 2.0
"""How long recording the outcome in the room may take, while the caller waits for the end."""
GATEWAY_CLOSE_SECONDS: Final = 4.0
"""How long a gateway, which polls every 2 s (gateway/dispatcher.py), has to inform the caller and close the room."""
DELETE_SECONDS: Final = 5.0
"""How long deleting the room may take. LiveKit answers in milliseconds, or is unreachable."""

# Phrases that are synthesised before calls need them.

SYNTHESIS_SECONDS: Final = 20.0
"""How long synthesising a prepared phrase may take. No caller waits for it."""
PREPARE_RETRY_SECONDS: Final = (1.0, 5.0, 30.0, 60.0)
"""Pauses before the phrases that failed are requested again."""

# The stages of a turn.

STT_ATTEMPT_SECONDS: Final = 12.0
"""Longest duration of one transcription. The plugin's own limit is 30 s; by then a caller has hung up."""
MAX_FAILED_TURNS: Final = 5
"""Turns that may fail in a row at one stage; one more ends the call."""

# The avatar. The voice never waits for it longer than these.

AVATAR_START_SECONDS: Final = 10.0
"""How long Tavus may take to accept a conversation."""
AVATAR_JOIN_SECONDS: Final = 20.0
"""How long an accepted avatar may take to join the room and show its video."""
AVATAR_GREETING_SECONDS: Final = 2.0
"""How long the greeting waits for the avatar once the caller can hear: the voice has priority."""
AVATAR_STALL_SECONDS: Final = 3.0
"""How much longer than the audio an avatar may take to play it; includes rendering, some 1 s, and its report."""
AVATAR_PULSE_SECONDS: Final = 0.7
"""Pause between two pulses. A frozen avatar misses two, so it is noticed within 2.7 s."""
AVATAR_PULSE_ANSWER_SECONDS: Final = 1.0
"""How long an answer to a pulse may take: the way to the avatar's server and back, and a pause of its event loop."""
AVATAR_SILENT_SECONDS: Final = 2.25
"""How long an avatar may be silent while the agent's speech is due; includes rendering. Noticed within 2.75 s."""
AVATAR_SOUND_SECONDS: Final = 0.25
"""How often the avatar's sound is read while the agent's speech is due. Reading it takes 1 ms."""
AVATAR_OVERTIME_SECONDS: Final = 300.0
"""How long after the longest call Tavus itself ends a conversation that no process has ended."""
AVATAR_CLOSE_SECONDS: Final = 4.0
"""How long each step of closing an avatar may take."""
