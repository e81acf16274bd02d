"""Drops what a transcription model writes for noise, so that a cough is not answered.

Whisper writes a sentence for any sound: often a subtitle credit from its training data, or a polite closing. A dropped
transcript is empty. The session then hears nothing: no turn, no caption, and an interrupted sentence continues.

Two kinds of evidence, the better one first:

1. The answer's own measures: each segment has `no_speech_prob` and `avg_logprob` in the format `verbose_json`. The
   plugin requests that format for the model whisper-1, the only one of OpenAI's that has it.
2. The text: sentences that are known subtitle credits, which a caller does not say. For answers of other models this
   is the only evidence. Short answers such as "yes", "thank you" and "you" are not in the list.
"""
# ruff: noqa: RUF001 - letters of other alphabets look like Latin ones to a linter.

import logging
import re
import unicodedata
from typing import Any, Final, cast

from openai import AsyncOpenAI
from openai.types.audio import Transcription, TranscriptionSegment, TranscriptionVerbose

logger = logging.getLogger(__name__)

NO_SPEECH: Final = 0.6
"""A segment without speech has at least this `no_speech_prob`, and also a low log probability.

Measured with Whisper base: coughs, tones and noise have 0.68 to 0.77, and 51 utterances in five languages at most 0.50,
single words of espeak-ng and of people among them. The limit is Whisper's own (openai/whisper, transcribe.py).
"""
LOG_PROBABILITY: Final = -1.0
"""A segment without speech has a lower `avg_logprob`. The same sounds have -2.3 to -1.6. Speech can be as low as -1.9
(espeak-ng's Arabic), so neither measure decides alone."""

_CREDITS: Final = frozenset(
    {
        "ترجمة نانسي قنقر",
        "اشتركوا في القناة",
        "لا تنسوا الاشتراك في القناة",
        "شكرا للمشاهدة",
        "شكرا على المشاهدة",
        "شكرا لكم على المشاهدة",
        "thanks for watching",
        "thank you for watching",
        "thank you so much for watching",
        "please subscribe to my channel",
        "please subscribe to our channel",
        "like and subscribe",
        "don't forget to subscribe",
        "merci d'avoir regardé cette vidéo",
        "abonnez vous à la chaîne",
        "gracias por ver el video",
        "suscríbete al canal",
        "grazie per aver guardato il video",
        "iscrivetevi al canale",
        "obrigado por assistir",
        "inscreva se no canal",
        "vielen dank fürs zuschauen",
        "bedankt voor het kijken",
        "izlediğiniz için teşekkür ederim",
        "abone olmayı unutmayın",
        "terima kasih telah menonton",
        "देखने के लिए धन्यवाद",
        "продолжение следует",
        "спасибо за просмотр",
        "ご視聴ありがとうございました",
        "시청해주셔서 감사합니다",
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
        "謝謝觀看",
    }
)
"""Whole sentences that Whisper writes for noise."""

_CREDIT_STARTS: Final = (
    "subtitles by",
    "amara.org",
    "sous-titrage",
    "sous-titres réalisés",
    "subtítulos realizados por",
    "subtítulos por",
    "legendas pela comunidade",
    "sottotitoli creati dalla",
    "sottotitoli e revisione a cura",
    "untertitel der amara.org",
    "untertitel im auftrag des",
    "untertitelung des",
    "ondertitels ingediend door",
    "ondertiteling tv",
    "altyazı m.k.",
    "napisy stworzone przez",
    "субтитры сделал",
    "субтитры создавал",
    "субтитры подогнал",
    "редактор субтитров",
    "字幕由",
    "字幕志愿者",
)
"""Beginnings of sentences that name who made subtitles."""

_SENTENCE_END: Final = re.compile(r"[.!?؟。！？\n]+(?=\s|$)")


def speech_only(client: AsyncOpenAI) -> AsyncOpenAI:
    """Return the client for the stt stage: transcripts of sound that is no speech are empty."""
    return cast(AsyncOpenAI, _SpeechOnly(client))


class _SpeechOnly:
    """Stands in for a client. The plugin passes on the text of an answer and drops its segments (1.8.9, stt.py)."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        self.audio = self
        self.transcriptions = self

    async def create(self, **options: Any) -> Transcription | TranscriptionVerbose:
        answer: Transcription | TranscriptionVerbose = await self._client.audio.transcriptions.create(**options)
        text, reason = heard(answer)
        if reason:
            answer.text = text
            logger.info("transcript of noise dropped", extra={"reason": reason})
        return answer

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)


def heard(answer: Transcription | TranscriptionVerbose) -> tuple[str, str]:
    """Return the text that was spoken, and why some of the answer's text was dropped; an empty reason if none was."""
    segments = getattr(answer, "segments", None) or []
    spoken = [segment for segment in segments if not is_noise(segment)]
    text = answer.text if len(spoken) == len(segments) else " ".join(segment.text.strip() for segment in spoken)
    if is_credit(text):
        return "", "subtitle credit"
    return text, "" if len(spoken) == len(segments) else "no speech"


def is_noise(segment: TranscriptionSegment) -> bool:
    """Return whether the provider itself measured no speech in a segment; False when it measured nothing."""
    # The client does not validate answers: another server's segment may have neither measure.
    no_speech, log_probability = (getattr(segment, name, None) for name in ("no_speech_prob", "avg_logprob"))
    if no_speech is None or log_probability is None:
        return False
    return bool(no_speech >= NO_SPEECH and log_probability < LOG_PROBABILITY)


def is_credit(text: str) -> bool:
    """Return whether every sentence of a text is a subtitle credit."""
    sentences = [plain for sentence in _SENTENCE_END.split(text) if (plain := _plain(sentence))]
    return bool(sentences) and all(
        sentence in _PLAIN_CREDITS or sentence.startswith(_PLAIN_CREDIT_STARTS) for sentence in sentences
    )


def _plain(text: str) -> str:
    """Return lower-case words without marks and punctuation, so that all spellings of a sentence are equal."""
    letters = (_plain_letter(letter) for letter in unicodedata.normalize("NFKD", text.casefold()))
    return " ".join("".join(letters).split())


def _plain_letter(letter: str) -> str:
    category = unicodedata.category(letter)
    if category in ("Mn", "Cf") or letter == "\N{ARABIC TATWEEL}":
        return ""
    return " " if category[0] in "PSZC" else letter


_PLAIN_CREDITS: Final = frozenset(_plain(credit) for credit in _CREDITS)
_PLAIN_CREDIT_STARTS: Final = tuple(_plain(start) for start in _CREDIT_STARTS)
