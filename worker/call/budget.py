"""Every time bound of a call, in seconds, and the reason for each.

A caller who hears nothing hangs up. So two of the bounds are promises, and the others follow from them:

- Within `FIRST_SOUND_SECONDS` of their last word, callers hear the reply or a prepared "one moment".
- Within `ANSWER_SECONDS` of their last word, callers hear the reply or a prepared apology.

`worker.call.turn_budget` keeps the promises, whatever a stage does.
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

# What a rescue needs to know.

STORE_SECONDS: Final = 2.0
"""How long storing the last turns in LiveKit may take. No caller waits for it."""
STORE_PAUSE_SECONDS: Final = 1.0
"""The shortest time between two writes: each reaches every participant of the room."""
STORE_RETRY_SECONDS: Final = 5.0
"""When a write that failed is repeated. LiveKit is back within seconds of a restart."""

# The end of a call.

REJOIN_SECONDS: Final = 10.0
"""How long a caller may take to rejoin after a reloaded page or a lost network."""
RECORD_SECONDS: Final = 2.0
"""How long recording the outcome in the room may take, while the caller waits for the end."""
GATEWAY_CLOSE_SECONDS: Final = 4.0
"""How long a gateway, which polls every 2 s (gateway/calls/dispatcher.py), has to inform the caller and close the
room."""
DELETE_SECONDS: Final = 5.0
"""How long deleting the room may take. LiveKit answers in milliseconds, or is unreachable."""

# Phrases that are synthesised before calls need them.

SYNTHESIS_SECONDS: Final = 20.0
"""How long synthesising a prepared phrase may take. No caller waits for it."""
PREPARE_RETRY_SECONDS: Final = (1.0, 5.0, 30.0, 60.0)
"""Pauses before the phrases that failed are requested again."""

# A turn: from the caller's last word to the reply.

FIRST_SOUND_SECONDS: Final = 3.0
"""The promise: callers hear something this soon after their last word. Later, they ask whether anyone is there."""
ANSWER_SECONDS: Final = 8.0
"""The promise: callers hear the reply or the apology this soon after their last word. Later, they hang up."""
PLAY_SECONDS: Final = 0.6
"""From the moment that prepared audio is handed over until the caller hears it: encoding, network, jitter buffer. It
takes 0.2 s by voice, and up to 0.6 s through an avatar."""
SPEECH_END_SECONDS: Final = 0.3
"""From the caller's last word until the transcription starts: the silence that ends speech, and its detection."""
ONE_MOMENT_SECONDS: Final = FIRST_SOUND_SECONDS - PLAY_SECONDS
"""When "one moment" is played after the last word, and when silence within a reply is too long."""
ONE_MOMENT_AGAIN_SECONDS: Final = 4.0
"""From one "one moment" to the next while a tool runs. It lasts some 1.2 s, so the silence after it is below
`FIRST_SOUND_SECONDS`."""
TOOL_SECONDS: Final = 60.0
"""When a turn whose tools have not ended is given up. Declared tools end earlier; tools of own code may hang."""
GIVE_UP_SECONDS: Final = 6.4
"""When a turn without a reply is given up. "One moment" lasts some 1.2 s, and no silence after it exceeds the first
one. So the apology is heard well before `ANSWER_SECONDS`, also when interrupting the reply takes a while."""
PREPARED_PLAYOUT_SECONDS: Final = 5.0
"""How long "one moment" may hold back a reply. Then the end of its playback was never reported."""
MAX_FAILED_TURNS: Final = 5
"""Turns that may fail in a row; one more ends the call."""

IDLE_ANSWER_SECONDS: Final = ANSWER_SECONDS + 2.0
"""How long after the caller's last word an answer may be pending, before the caller's silence counts. Noise that no
transcript follows has no answer."""
SAY_SECONDS: Final = 15.0
"""Longest duration of a fixed sentence, with its preparation, and with a speech that has to end first. The sentences
last 2 to 4 s."""

# The stages of a turn. Each may be slow or fail once, and the turn still fits.

MAX_RETRIES: Final = 1
"""Retries of a failed request. A provider that fails twice in one turn fails for longer than a caller waits."""
RETRY_SECONDS: Final = 0.3
"""The pause before a retry, unless the provider asks for another. The SDK's first one is 0.1 s."""
MAX_RETRY_AFTER_SECONDS: Final = 4.0
"""The longest pause that a provider may ask for (Retry-After): with transcription before it, the turn still fits."""
STT_ATTEMPT_SECONDS: Final = 4.0
"""Longest duration of one request for a transcript. It usually takes less than 1 s, and on a loaded server 3 s."""
STREAM_TEXT_SECONDS: Final = 1.5
"""How long after an utterance a streaming stt may return its text. They usually take less than 0.5 s."""
STT_FALLBACK_SECONDS: Final = 2.5
"""Longest duration of a transcription by a provider that has a fallback. A loaded server often needs 2 s."""
FALLBACK_SECONDS: Final = 1.5
"""Longest time without an answer of a provider that has a fallback. With the fallback's answer, the reply still begins
at about the time of "one moment"."""
STT_SECONDS: Final = GIVE_UP_SECONDS - SPEECH_END_SECONDS - 0.3
"""Longest duration of a transcription, with its retry: it fails before the turn is given up."""
LLM_ATTEMPT_SECONDS: Final = 4.0
"""Longest time without a token. Slow models need 3 s for the first one, so a shorter limit would make them fail."""
TTS_ATTEMPT_SECONDS: Final = 3.0
"""Longest time without audio of a sentence, before its first sample and between samples."""

# The avatar. The voice never waits for it longer than these.

AVATAR_START_SECONDS: Final = 10.0
"""How long Tavus may take to accept a conversation."""
AVATAR_JOIN_SECONDS: Final = 20.0
"""How long an accepted avatar may take to join the room and show its video."""
AVATAR_GREETING_SECONDS: Final = 2.0
"""How long the greeting waits for the avatar once the caller can hear: the voice has priority."""
AVATAR_STALL_SECONDS: Final = 8.0
"""How much longer than the audio an avatar may take to report that it has played it. Only the report is missing then:
an avatar that does not play is noticed by its silence."""
AVATAR_CLEAR_SECONDS: Final = 5.0
"""How long an avatar may take to report how much it played until an interruption. A frozen avatar is noticed earlier by
its pulse."""
AVATAR_LEFT_SECONDS: Final = 0.25
"""An avatar is lost this long after it left the room. When a room is closed, it leaves a moment before the agent."""
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
