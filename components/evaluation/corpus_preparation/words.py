"""Features without a language model: which words a text has, hashed.

Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", ICML: a word adds its weight,
with a sign that is hashed too, to the coordinate that its hash names, so that words which meet there cancel
on average. The weight is 1 + ln(count), the sublinear term frequency. There is no inverse document
frequency: sites would have to tell each other in how many of their records a word stands.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

DIMENSIONS: Final = 1536
"""Width of the features; what it costs against wider ones is measured in the README."""
_WORD = re.compile(r"\w+")


def hashed_words(texts: Sequence[str], dimensions: int = DIMENSIONS) -> NDArray[np.float32]:
    """Features of shape (len(texts), dimensions), each row of norm √dimensions.

    A text without a word is a row of zeros, and so is one whose words all cancel. The same text has the
    same bytes on any machine.

    Args:
        texts: in any language that parts its words.
        dimensions: width, at least 1.
    """
    features = np.zeros((len(texts), dimensions), np.float64)
    for row, text in zip(features, texts, strict=True):
        for word, count in Counter(_WORD.findall(text.casefold())).items():
            number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
            row[(number >> 1) % dimensions] += (1 if number & 1 else -1) * (1 + math.log(count))
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scale = np.divide(math.sqrt(dimensions), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    result: NDArray[np.float32] = (features * scale).astype(np.float32)
    return result
