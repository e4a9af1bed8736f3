import copy

from PIL import Image
import pytest

from advbct_jax.retrieval import report

_ENCODER = {
  'encoder': 'resnet18',
  'weights': 'ab12',
  'dimension': 256,
  'compatible_dimension': 0,
  'preprocessing': 'squash to 224 pixels',
  'compute_dtype': 'bfloat16',
}
_RESULTS = {
  'datasets': {
    'roxford5k': {
      'old': {'medium/map': 49.154, 'hard/map': 9.0},
      'self': {'medium/map': 62.13, 'hard/map': 12.0},
      'cross': {'medium/map': 52.31, 'hard/map': 10.0},
      'independent': {'medium/map': 63.85, 'hard/map': 13.0},
      'refresh': {
        '0': 52.31,
        '25': 54.0,
        '50': 57.0,
        '75': 60.25,
        '100': 62.13,
      },
    }
  },
  'protocol': {
    'roxford5k': {
      'kind': 'revisited',
      'main_metric': 'medium/map',
      'queries': 70,
      'gallery': 4993,
      'query_crop': True,
    }
  },
  'encoders': {
    'old': _ENCODER,
    'new': _ENCODER | {'encoder': 'resnet50', 'weights': 'cd34'},
    'independent': _ENCODER | {'weights': 'ef56'},
  },
  'scores': {'p_up': 49.5541, 'p_comp': 58.0864, 'p_1': 53.4501},
}


def _changed(change):
  results = copy.deepcopy(_RESULTS)
  change(results)
  return results


def test_the_console_shows_an_aligned_table_its_reading_and_scores(capsys):
  report.print_results(_RESULTS)

  assert capsys.readouterr().out == (
    '\n'
    'roxford5k, in percent\n'
    'metric        old   self  cross  independent\n'
    'medium/map  49.15  62.13  52.31        63.85\n'
    'hard/map     9.00  12.00  10.00        13.00\n'
    'Deploying the new encoder for queries alone takes medium/map from\n'
    '49.15 to 52.31 (+3.16); the encoders are compatible. Re-embedding the\n'
    'whole gallery takes it to 62.13 (+12.98).\n'
    'p_up: 49.55\n'
    'p_comp: 58.09\n'
    'p_1: 53.45\n'
  )


def test_the_report_and_its_plots_lie_together(tmp_path):
  report.write_report(_RESULTS, tmp_path)

  written = {path.name for path in tmp_path.iterdir()}
  assert written == {'report.md', 'results.png', 'refresh.png'}
  text = (tmp_path / 'report.md').read_text()
  assert '](results.png)' in text
  assert '](refresh.png)' in text
  for name in ('results.png', 'refresh.png'):
    with Image.open(tmp_path / name) as plot:
      assert min(plot.size) > 300
      assert len(plot.convert('RGB').getcolors(10**6)) > 10


def test_the_report_names_the_encoders_and_the_figures():
  text = report.render(_RESULTS)

  assert '| encoder | resnet18 | resnet50 | resnet18 |' in text
  assert '| weights | ab12 | cd34 | ef56 |' in text
  assert '| compute_dtype | bfloat16 | bfloat16 | bfloat16 |' in text
  assert '| medium/map | 49.15 | 62.13 | 52.31 | 63.85 |' in text
  assert '| 75% | 60.25 |' in text
  assert '58.09' in text


def test_the_report_says_what_the_upgrade_gives():
  text = report.render(_RESULTS)

  assert 'takes `medium/map` from 49.15 to 52.31 (+3.16)' in text
  assert 'takes it to 62.13 (+12.98)' in text
  assert 'not** compatible' not in text


def test_a_cross_test_below_the_old_one_is_called_incompatible():
  def sink(results):
    results['datasets']['roxford5k']['cross']['medium/map'] = 1.2

  assert 'the encoders are **not** compatible' in report.render(_changed(sink))


@pytest.mark.parametrize(
  ('crop', 'said'),
  [(True, 'cropped to their boxes'), (False, 'taken whole (not cropped')],
)
def test_the_protocol_says_whether_queries_were_cropped(crop, said):
  def decide(results):
    results['protocol']['roxford5k']['query_crop'] = crop

  assert f'70 queries, {said}' in report.render(_changed(decide))


def test_only_oxford_and_paris_carry_the_warning_of_overlap():
  def replace(results):
    for part in ('protocol', 'datasets'):
      results[part]['rmine'] = results[part].pop('roxford5k')

  assert 'Mind the overlap' in report.render(_RESULTS)
  assert 'Mind the overlap' not in report.render(_changed(replace))


def test_a_score_that_means_nothing_is_said_to():
  def weaken(results):
    results['datasets']['roxford5k']['independent']['medium/map'] = 40.0

  assert 'P_comp says nothing' in report.render(_changed(weaken))
  assert 'P_comp says nothing' not in report.render(_RESULTS)


def test_a_new_encoder_alone_has_a_report_without_a_refresh_curve(tmp_path):
  def leave_alone(results):
    figures = results['datasets']['roxford5k']
    results['datasets']['roxford5k'] = {'self': figures['self']}
    results['encoders'] = {'new': results['encoders']['new']}
    results['scores'] = {}

  report.write_report(_changed(leave_alone), tmp_path)

  text = (tmp_path / 'report.md').read_text()
  assert '| medium/map | 62.13 |' in text
  assert 'Refresh' not in text
  assert not (tmp_path / 'refresh.png').exists()


def test_a_wider_encoder_is_said_to_be_compared_in_part():
  def widen(results):
    results['encoders']['new'] |= {
      'dimension': 384,
      'compatible_dimension': 256,
    }

  text = report.render(_changed(widen))
  assert 'the first 256 components of the new embeddings are compared' in text
  assert '*self* takes all 384' in text
  assert 'components of the new' not in report.render(_RESULTS)
