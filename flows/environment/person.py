"""Who asks: the login name of the person at the keyboard, for the audit."""

import os
import pwd


def login_name() -> str:
    """The account that this process runs under; its number where it has no name (as containers do)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
