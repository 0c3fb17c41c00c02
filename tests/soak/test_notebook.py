"""deploy/kaggle-two-t4.ipynb from its first cell to its last, with a tiny Mixtral in the place of the real one."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.notebooks import CODE, Cells
from tests.support.questions import questions_csv
from tests.support.runs import ROOT
from tests.support.tiny_model import tiny_mixtral

pytestmark = pytest.mark.soak


def test_every_cell_runs(tmp_path: Path) -> None:
    """All but the installation and the GPU: the way without internet, with the model in a dataset."""
    attached = tmp_path / "kaggle" / "input" / "datasets" / "somebody"
    for name in ("codemmlu", "jobs", "recipes"):
        shutil.copytree(ROOT / name, attached / "codemmlu-on-ray" / name)
    (attached / "codemmlu").mkdir()
    (tmp_path / "kaggle" / "working").mkdir()
    (tmp_path / "tmp").mkdir()
    questions_csv(attached / "codemmlu" / "test.csv", 6, answers="")
    questions_csv(attached / "codemmlu" / "train.csv", 12, prefix="s", text="#s{i} which was it?")
    python = f'PATH={Path(sys.executable).parent}:$PATH PYTHONPATH=$PWD exec {sys.executable} "$@"'
    cells = Cells(tmp_path, python=python)
    cells.names["MODEL"] = tiny_mixtral(tmp_path / "mixtral")
    ours = "models.mixtral.source={MODEL} models.mixtral.allow_low_mass=true models.mixtral.cpu_kv_cache_gib=1"
    for cell in CODE:
        cells.run(cell.replace("out=/kaggle/working/run", f"out=/kaggle/working/run {ours}"))
    working = tmp_path / "kaggle" / "working"
    lines = (working / "submission.csv").read_text().splitlines()
    assert lines[0] == "task_id,answer"
    assert [line.partition(",")[0] for line in lines[1:]] == [f"q{n}" for n in range(6)]
    assert all(line[-1] in "ABC" for line in lines[1:])
    assert (working / "report.html").is_file()
    assert (working / "run" / "report.json").is_file()
