"""The config of the tiny upgrade; its `data.root` is to be set."""

import pathlib

from tests.tiny_upgrade import tiny_config


def get_config():
  return tiny_config(pathlib.Path())
