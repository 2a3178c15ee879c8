"""What people say to a demo: a grammar for the ear, in JSGF and as a check for whole sentences."""

from __future__ import annotations

import functools
import re

_RULES = {
    "num": "zero | one | two | three | four | five | six | seven | eight | nine | ten | eleven | twelve | thirteen "
    "| fourteen | fifteen | sixteen | seventeen | eighteen | nineteen | twenty | thirty | forty | fifty | hundred",
    "op": "plus | minus | times | divided by",
    "city": "paris | london | berlin | tokyo | rome | madrid | boston | chicago | vienna | amsterdam | sydney",
    "phrase": "hello | hello world | good morning | good evening | good night | thank you | one two three",
    "word": "hello | world | cat | dog | house | water | apple | banana | music | computer",
}
_SENTENCES = (
    "hello",
    "hi",
    "hello there",
    "good morning",
    "good evening",
    "goodbye",
    "thank you",
    "help",
    "stop",
    "please stop",
    "yes",
    "no",
    "what can you do",
    "what can you do for me",
    "who are you",
    "what are you",
    "how are you",
    "how are you today",
    "what is your name",
    "what is my name",
    "count to <num>",
    "please count to <num>",
    "can you count to <num>",
    "count from <num> to <num>",
    "what time is it",
    "what is the time",
    "what day is it",
    "what day is it today",
    "what is the date",
    "repeat after me <phrase>",
    "say <phrase>",
    "spell <word>",
    "how do you spell <word>",
    "tell me a story",
    "tell me a long story",
    "please tell me a story",
    "tell me a joke",
    "what is <num> <op> <num>",
    "what is the weather in <city>",
    "what is the weather like in <city>",
    "how is the weather in <city>",
)


def jsgf() -> str:
    """Return the grammar in the JSpeech Grammar Format (W3C note, 2000)."""
    rules = "".join(f"<{name}> = {body};\n" for name, body in _RULES.items())
    return f"#JSGF V1.0;\ngrammar demo;\n{rules}public <demo> = {' | '.join(_SENTENCES)};\n"


@functools.cache
def _pattern() -> re.Pattern[str]:
    def fill(sentence: str) -> str:
        return re.sub(r"<(\w+)>", lambda found: f"(?:{_RULES[found[1]].replace(' | ', '|')})", sentence)

    return re.compile("|".join(fill(sentence) for sentence in _SENTENCES))


def accepts(words: str) -> bool:
    """Return whether these words are a whole sentence of the grammar."""
    return _pattern().fullmatch(words) is not None
