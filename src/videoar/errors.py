"""The one exception that is a user's to fix."""

from collections.abc import Iterator


class UserError(ValueError):
    """Bad input: a path, a number or a file that the user can correct.

    The message is one line that names the value and, where there is one, the path. The command line prints it
    without a traceback and exits with code 2; library code raises it like any `ValueError`.
    """


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, the first cause first."""
    if error is not None:
        yield from chain(error.__cause__ or error.__context__)
        yield error


def dead_worker(error: BaseException) -> UserError | None:
    """What to tell the user if a process that loads data has died, which torch reports from a signal handler.

    The `RuntimeError` therefore comes out of whatever line the main process is at.
    """
    for each in chain(error):
        text = str(each)
        if isinstance(each, RuntimeError) and "DataLoader worker" in text and ("exited" in text or "killed" in text):
            return UserError(
                f"a loader worker died ({text.splitlines()[0].strip()}): out of memory, or a file that crashes the "
                "decoder. Find it with `videoar data check`, or set data.reading.isolate=true"
            )
    return None
