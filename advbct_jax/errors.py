"""The one exception that is the user's to mend."""


class InputError(ValueError):
  """Input that cannot be used: a file, a flag, a config, a store.

  Its message names what was read, what was found there, what was wanted, and
  what to do. The command line prints it without a traceback.
  """
