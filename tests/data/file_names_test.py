import os
import pathlib

import pytest

from advbct_jax.data.file_names import printable


@pytest.mark.parametrize(
  ('name', 'printed'),
  [
    (b'owl/a.jpg', 'owl/a.jpg'),
    ('größe'.encode(), 'größe'),
    (b'caf\xe9', r'caf\xe9'),
    (b'\x83e\x83X\x83g', r'\x83e\x83X\x83g'),  # Shift JIS
  ],
)
def test_a_name_can_be_printed(name, printed):
  assert printable(os.fsdecode(name)) == printed
  assert printable(pathlib.Path(os.fsdecode(name))) == printed
  printed.encode('utf-8')
