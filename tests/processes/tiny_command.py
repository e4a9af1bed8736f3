"""`advbct` with the backbone of the tiny upgrade: COMMAND …."""

import sys

from advbct_jax import commands
from advbct_jax.models.resnet import RESNETS
from tests.tiny_upgrade import TINY

if __name__ == '__main__':
  RESNETS['tiny'] = TINY
  commands.main(sys.argv[1:])
