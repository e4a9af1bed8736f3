"""What ends a command with a message instead of a traceback."""


class InputError(ValueError):
  """Input that cannot be used: a file, a flag, a config, a store.

  Its message names what was read, what was found there, what was wanted, and
  what to do. The command line prints it without a traceback.

  >>> import advbct_jax
  >>> try:
  ...   advbct_jax.open_store('nowhere')
  ... except advbct_jax.InputError as error:
  ...   print(str(error).partition(' (')[0])
  nowhere: no embedding store here
  """


class StoppedError(RuntimeError):
  """A signal has ended the training; its state is saved.

  Attributes:
    signal: which signal.
  """

  def __init__(self, step: int, steps: int, signal: int):
    super().__init__(
      f'stopped at step {step} of {steps}, which is saved; run the same '
      'command again to go on.'
    )
    self.signal = signal


class DivergedError(RuntimeError):
  """A loss or a norm is no finite number any more."""
