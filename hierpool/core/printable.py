"""Text as a terminal or a page may show it: characters that act, or that hide, as escapes.

Names come from the user's files. A name with an escape sequence could clear the screen or change
the title of a window, one with a bidirectional override could read as another; so every printed
form, message and summary passes through here last.
"""

from __future__ import annotations

import re
import unicodedata

_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats, lone surrogates, separators
_UNUSUAL = re.compile("[^ -~]")  # all that may act is among these
_JOINERS = "\u200c\u200d"  # spelling in Persian and Hindi, and in emoji


def printable(text: str) -> str:
    r"""The text with acting characters as escapes; lines and tabs stay.

    Examples
    --------
    >>> print(printable("red \x1b[31m\u202e"))
    red \x1b[31m\u202e
    """
    return _escaped(text, keep=f"\n\t{_JOINERS}")


def one_line(text: str) -> str:
    r"""The same for a name or a headline: breaks of lines and tabs are escapes too.

    Examples
    --------
    >>> print(one_line("a\nproblem: b"))
    a\nproblem: b
    """
    return _escaped(text, keep=_JOINERS)


def _escaped(text: str, keep: str) -> str:
    def shown(found: re.Match[str]) -> str:
        letter = found[0]
        acts = unicodedata.category(letter) in _ACTING and letter not in keep
        return ascii(letter)[1:-1] if acts else letter

    return _UNUSUAL.sub(shown, text)
