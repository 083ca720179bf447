"""Texts as hurried people type them: what shifts the data of a cloud that joins late.

Adjacent transpositions and omissions are two of the four errors that make up most misspellings (Damerau
1964, "A technique for computer detection and correction of spelling errors"); classifiers on subwords lose
much to them (Pruthi, Dhingra and Lipton 2019, "Combating Adversarial Misspellings", ACL).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

RATE: Final = 0.08
"""Share of the characters that an error begins at."""


def mistyped(texts: Sequence[str], *, seed: int, rate: float = RATE) -> list[str]:
    """The texts with errors: a character changes places with the next one, or is left out.

    The same texts and seed give the same errors. A text is never left without a character that it had one of.

    Args:
        texts: any.
        seed: of where errors are.
        rate: chance of every character, from 0 to 1.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    return [_mistyped(text, generator, rate) for text in texts]


def _mistyped(text: str, generator: np.random.Generator, rate: float) -> str:
    chances, swaps = generator.random(len(text)), generator.random(len(text)) < 0.5
    typed: list[str] = []
    place = 0
    while place < len(text):
        if chances[place] >= rate:
            typed.append(text[place])
        elif swaps[place] and place + 1 < len(text):
            typed += [text[place + 1], text[place]]
            place += 1
        place += 1
    return "".join(typed) or text[:1]
