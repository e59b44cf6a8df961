"""Errors that are raised while TensorFlow traces a step."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Raises what was raised while a step was traced, as it was.

    AutoGraph, which converts Orbit's loop, makes a `StagingError` of every exception that it does
    not know, and puts a trace of the converted code before its message.
    """
    try:
        yield
    except Exception as error:
        original = error.__context__
        if type(error).__name__ == "StagingError" and original is not None:
            raise original from None
        raise
