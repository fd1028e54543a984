"""The one exception that is a user's to fix."""


class UserError(ValueError):
    """Bad input: a path, a number or a file that the user can correct.

    The message is one line that names the value and, where there is one, the path. The command line prints it
    without a traceback and exits with code 2; library code raises it like any `ValueError`.
    """
