"""jobs/index.py and jobs/answer.py with the hashing embedder in the place of the real one.

    python -m tests.retrieval.hashed_job (index | answer) ASKED SCRIPT.json RECIPE [key.path=value ...]

ASKED and SCRIPT.json are those of `tests/counted_job.py`. Questions and examples know the embedder as `embedded`: only
what turns texts into vectors is another.
"""

import sys
from functools import partial
from pathlib import Path

from codemmlu import steps
from codemmlu.command import main
from codemmlu.retrieval import encoder
from tests.counted_job import open_counted
from tests.retrieval.encoders import opens

if __name__ == "__main__":
    job, asked, script, *arguments = sys.argv[1:]
    encoder.open_encoder = opens  # before indexing and lending, which are imported late, take it from there
    answer = partial(steps.answer, open_engine=partial(open_counted, asked=asked, engine=Path(script).read_text()))
    sys.exit(main(job, "", answer if job == "answer" else steps.index, arguments))
