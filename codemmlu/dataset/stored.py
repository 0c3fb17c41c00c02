"""The accepted questions of a run, as files in the run directory."""

from collections.abc import Iterator

from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, question_from, to_table

# Rows of one questions/ file. Within a file the longest questions come first, so that trouble with memory shows at the
# start and the estimated time left errs high; reading holds no more rows than this in memory.
_CHUNK = 10_000
FOLDER = "questions"
# Staging folder; renamed to questions/ once the recipe is validated.
STAGING = "questions.new"


class StoredQuestions:
    """The questions of a run, written to its directory while the source is read."""

    def __init__(self, run: RunDir) -> None:
        """Clear what an earlier attempt left in the staging folder."""
        run.clear(STAGING)
        self._run, self._folder = run, STAGING
        self._chunk: list[Question] = []
        self._files = 0

    def add(self, question: Question) -> None:
        """Keep one question, and write a file when there are enough."""
        self._chunk.append(question)
        if len(self._chunk) == _CHUNK:
            self.finish()

    def finish(self) -> None:
        """Write the questions that are still in memory."""
        if not self._chunk:
            return
        self._chunk.sort(key=lambda q: (-len(q.question) - sum(map(len, q.choices)), q.position))
        self._run.write_table(f"{self._folder}/{self._files:06d}.parquet", to_table(self._chunk, Question))
        self._chunk, self._files = [], self._files + 1

    def publish(self) -> None:
        """Replace the questions of an earlier attempt with the staged questions."""
        self._run.replace(FOLDER, self._folder)
        self._folder = FOLDER

    def __iter__(self) -> Iterator[Question]:
        """Return the questions, longest first within each file."""
        return stored_questions(self._run, self._folder)


def stored_questions(run: RunDir, folder: str = FOLDER) -> Iterator[Question]:
    """Read the accepted questions of a run, longest first within each file."""
    for name in run.files(folder):
        for row in run.read_table(name).to_pylist():
            yield question_from(row)
