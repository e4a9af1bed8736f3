import json

from advbct_jax.retrieval.matrix_report import write_matrices

RESULTS = {
  'encoders': [{'encoder': 'small'}, {'encoder': 'large'}],
  'datasets': {
    'places': {
      'main_metric': 'all/map',
      'matrices': {'all/map': [[40.0, 39.5], [41.0, 50.0]]},
    }
  },
}


def test_a_star_marks_what_queries_find_less_of_than_on_their_own_gallery(
  tmp_path,
):
  text = write_matrices(RESULTS, ['small', 'large'], tmp_path / 'matrix')
  assert (
    '| queries | gallery small | gallery large |\n'
    '| --- | --- | --- |\n'
    '| small | 40.00 | 39.50* |\n'
    '| large | 41.00* | 50.00 |'
  ) in text
  assert (tmp_path / 'matrix/matrix.md').read_text() == text
  written = json.loads((tmp_path / 'matrix/matrix.json').read_text())
  assert written == {**RESULTS, 'names': ['small', 'large']}
  picture = (tmp_path / 'matrix/matrix-places.png').read_bytes()
  assert picture.startswith(b'\x89PNG')
