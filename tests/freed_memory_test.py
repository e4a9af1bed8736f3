import platform
import subprocess
import sys

import pytest

# Prints how many pages the system has handed out for the second of two arrays,
# the first of which was given back.
SCRIPT = """
import resource
import numpy as np
from advbct_jax.freed_memory import keep_freed_memory

if {keep}:
  keep_freed_memory()

def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

array = np.ones(2**26, np.uint8)
del array
before = faults()
array = np.ones(2**26, np.uint8)
print(faults() - before)
"""


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='of the GNU C library alone'
)
def test_memory_that_was_freed_is_taken_again():
  given_back, kept = (
    int(
      subprocess.run(
        [sys.executable, '-c', SCRIPT.format(keep=keep)],
        stdout=subprocess.PIPE,
        check=True,
      ).stdout
    )
    for keep in (False, True)
  )
  assert kept < given_back / 4
