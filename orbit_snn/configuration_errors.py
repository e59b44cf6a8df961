"""The error of a wrong configuration, and the wording of its message."""

import difflib
import reprlib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A value of a configuration is wrong; the message is one line meant for the user."""

    def __init__(self, message: str):
        """Keeps the message on one line.

        Args:
            message: what is wrong and what was expected; characters which cannot be printed (line
                ends too) are escaped.
        """
        super().__init__(escaped(message))


def escaped(text: str) -> str:
    """The text with what cannot be printed, line ends too, as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def nearest(name: object, names: Iterable[str]) -> str:
    """Suggests the name that was probably meant.

    Args:
        name: what the user wrote.
        names: what the user may write.

    Returns:
        " Did you mean `x`?" where a name is near, else "".
    """
    if not isinstance(name, str):
        return ""
    known = {str(each).lower(): str(each) for each in names}
    found = difflib.get_close_matches(name[:100].lower(), known, n=1)
    return f" Did you mean `{known[found[0]]}`?" if found else ""


def shown(value: object) -> str:
    """Formats a value for an error message.

    Args:
        value: anything.

    Returns:
        The value as the user would write it, shortened to at most 80 characters.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    try:
        text = short.repr(value)
    except ValueError:  # an integer too long for Python to print
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
