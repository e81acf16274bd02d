"""A simulated OpenAI: transcriptions, chat completions, speech and models, as OpenAI's API reference describes them."""
