"""What a user can mend: each message says what is wrong, which value, and what to do."""


class UserError(Exception):
    """Base of all errors that an entry point prints as one message, without a traceback, before it exits with 2."""


class DataError(UserError, ValueError):
    """Files, folders, index files or their contents are not what they should be."""


class ConfigError(UserError, ValueError):
    """A recipe, option or value that does not exist or does not fit."""


class MissingDependency(UserError, ImportError):
    """An optional package (or system library) is not installed; the message names the command that installs it."""
