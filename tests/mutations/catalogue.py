"""The catalogue of mutations: faults that people make, each with the test files that must notice it.

When the code moves, the text of a mutation moves with it: tests/mutations/test_catalogue.py says which one is stale.
"""

from dataclasses import dataclass

PRIOR = "tests/mcq/test_letter_prior.py"
READINGS = "tests/mcq/test_probabilities.py"
TURNS = "tests/mcq/test_conversation.py"
METHODS = "tests/inference/test_methods.py"
RULES = "tests/voting/test_rules.py"
BALLOTS = "tests/voting/test_ballots.py"
FITTING = "tests/voting/test_fitting.py"
VIEWS = "tests/inference/test_votes.py"
ASKS = "tests/inference/test_spec.py"
ADAPTERS = "tests/engine/test_lora.py"
INDEX = "tests/retrieval/test_index.py"
CURRICULUM = "tests/training/test_training_set.py"
SPLIT = "tests/dataset/test_split.py"
HOLDOUT = "tests/retrieval/test_holdout.py"
CLEAN = "tests/dataset/test_clean.py"
ANSWERS = "tests/dataset/test_clean_answers.py"
SOURCE = "tests/dataset/test_source.py"
SUBMISSION = "tests/report/test_submission.py"
LIBRARY = "tests/retrieval/test_retriever.py"
PENDING = "tests/inference/test_backlog.py"
RUN_DIR = "tests/test_run_dir.py"
STAGES = "tests/inference/test_stages_run.py"  # the only one here that needs Ray
STATISTICAL = "tests/report/test_statistics.py"
SUMMARY = "tests/report/test_summary.py"


@dataclass(frozen=True)
class Mutation:
    """One fault.

    name: What people call it by.
    file: The file that is changed, below the root of the repository.
    old, new: Text that stands there exactly once, and what takes its place.
    tests: The test files of which one must fail.
    why: What the fault would do unnoticed.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str


SCORING = (
    Mutation(
        "letter-prior-added",
        "codemmlu/mcq/probabilities.py",
        "by_letter = by_letter - np.asarray(log_prior)",
        "by_letter = by_letter + np.asarray(log_prior)",
        (PRIOR,),
        "Calibration would double a model's liking for a letter instead of taking it out.",
    ),
    Mutation(
        "order-mapped-the-wrong-way",
        "codemmlu/mcq/probabilities.py",
        "row[list(reading.order)] = log_softmax(by_letter)",
        "row[: len(by_letter)] = log_softmax(by_letter)[list(reading.order)]",
        (READINGS,),
        "Readings with the choices rotated would count for other choices than those that were shown.",
    ),
    Mutation(
        "tie-decided-by-rounding",
        "codemmlu/mcq/probabilities.py",
        "int((values >= values.max() - _ROUNDING).argmax())",
        "int(values.argmax())",
        (READINGS,),
        "Equal choices would be decided by the order in which their logarithms were added.",
    ),
    Mutation(
        "margin-to-the-last-choice",
        "codemmlu/mcq/probabilities.py",
        "return first - rest[0] if rest else 1.0",
        "return first - rest[-1] if rest else 1.0",
        (READINGS, TURNS),
        "Close questions would look clear: early exits and cascades would stop too soon.",
    ),
    Mutation(
        "prior-counts-readings",
        "codemmlu/mcq/letter_prior.py",
        "append(by_letter.mean(axis=0))",
        "append(by_letter.sum(axis=0))",
        (PRIOR,),
        "A question that was read in every order would weigh as much as many questions.",
    ),
    Mutation(
        "leftover-choice-too-sure",
        "codemmlu/mcq/conversation.py",
        "np.prod([1 - p for p in checks])",
        "np.prod(checks)",
        (TURNS,),
        "A choice that is left over would be the surer the less the others were refuted.",
    ),
    Mutation(
        "accepts-below-the-threshold",
        "codemmlu/inference/methods/verify.py",
        "if p_true(checks[-1]) >= threshold:",
        "if p_true(checks[-1]) <= threshold:",
        (METHODS,),
        "A verified answer would be accepted when its check refutes it.",
    ),
)

VOTING = (
    Mutation(
        "temperature-multiplied",
        "codemmlu/voting/rules.py",
        "logs, logs / temperatures)",
        "logs, logs * temperatures)",
        (RULES,),
        "Voters that are too sure of themselves would be made surer.",
    ),
    Mutation(
        "abstentions-thin-the-pool",
        "codemmlu/voting/rules.py",
        "voted = np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)",
        "voted = np.full((len(weights), 1), float(len(some.voters)))",
        (RULES,),
        "Voters that abstained would count in the denominator of the pool's mean.",
    ),
    Mutation(
        "log-odds-without-the-choices",
        "codemmlu/voting/rules.py",
        "skill = np.clip([fitted.of(name).skill for name in ballots.voters], 0.0, 0.98)[None, :]\n"
        "    right = 1 / sizes + skill * (1 - 1 / sizes)\n"
        "    return _count(ballots, np.log(np.maximum((sizes - 1) * right / (1 - right), 1.0)))",
        "skill = np.clip([fitted.of(name).skill for name in ballots.voters], 0.0, 0.98)[None, :]\n"
        "    right = 1 / sizes + skill * (1 - 1 / sizes)\n"
        "    return _count(ballots, np.log(np.maximum(right / (1 - right), 1.0)))",
        (RULES,),
        "A voter better than chance of four choices would weigh nothing while it is below one half.",
    ),
    Mutation(
        "borda-ties-count-nothing",
        "codemmlu/voting/rules.py",
        "points += ((higher > _ROUNDING) + 0.5 * (np.abs(higher) <= _ROUNDING)) * rival",
        "points += (higher > _ROUNDING) * rival",
        (RULES,),
        "A voter that finds two choices equal would take points from both.",
    ),
    Mutation(
        "runoff-strikes-the-first-of-equals",
        "codemmlu/voting/rules.py",
        "standing = votes + points / (points.max(axis=1, where=ballots.choices, initial=0.0) + 1.0)[:, None]",
        "standing = votes.astype(float)",
        (RULES,),
        "Choices with equally many votes would be struck out without asking who ranks them higher.",
    ),
    Mutation(
        "cascade-in-the-order-of-names",
        "codemmlu/voting/rules.py",
        "for name in fitted.order:",
        "for name in some.voters:",
        (RULES,),
        "The dearest voter would decide what the cheapest was to decide.",
    ),
    Mutation(
        "equal-scores-to-the-first",
        "codemmlu/voting/rules.py",
        "    best = _highest(np.where(best, pool, -np.inf), best)\n",
        "",
        (RULES,),
        "Ties would go to the earlier letter instead of the choice that the pool finds likelier.",
    ),
    Mutation(
        "broken-vote-counts-as-abstention",
        "codemmlu/voting/ballots.py",
        "np.where(broken, np.int8(FAILED), status)",
        "np.where(broken, np.int8(1), status)",
        (BALLOTS,),
        "An answer that is none would count as wrong instead of as failed.",
    ),
    Mutation(
        "skill-without-guesses",
        "codemmlu/voting/voter_fit.py",
        "known / (count - chance + around.skill_pull)",
        "known / (count + around.skill_pull)",
        (FITTING,),
        "What is known beyond guessing would be estimated too low, the lower the fewer choices there are.",
    ),
)

KEYS = (
    Mutation(
        "key-without-task-id",
        "codemmlu/inference/spec.py",
        "digest(self._digest, question.task_id, question.question, question.choices, *self._changes(question))",
        "digest(self._digest, question.question, question.choices, *self._changes(question))",
        (ASKS,),
        "Of a question that is repeated under another task_id one would have no answer.",
    ),
    Mutation(
        "key-without-adapter",
        "codemmlu/inference/voters.py",
        "weights=digest(self.weights, adapter.fingerprint) if adapter else self.weights,",
        "weights=self.weights,",
        (ADAPTERS,),
        "Answers of the plain model would be shown for those of its fine-tuned weights.",
    ),
    Mutation(
        "index-without-its-rule",
        "codemmlu/retrieval/index.py",
        "looks = digest(self.manifest.fingerprint, digested(self.policy))",
        "looks = digest(self.manifest.fingerprint)",
        (INDEX,),
        "A changed rule for what a question may see would ask nothing again.",
    ),
    Mutation(
        "weights-without-their-start",
        "codemmlu/training/training_set.py",
        "model.fingerprint, training_set.fingerprint, start, *changes)",
        "model.fingerprint, training_set.fingerprint, *changes)",
        (CURRICULUM,),
        "A training that goes on from other weights would be taken for done.",
    ),
)

SPLITS = (
    Mutation(
        "split-ignores-near-duplicates",
        "codemmlu/dataset/splits.py",
        "groups = near_duplicate_groups(examples)",
        "groups = list(range(len(examples)))",
        (SPLIT,),
        "Copies of what is trained on would be fitted on, and every number would be too good.",
    ),
    Mutation(
        "holdout-leaks-into-examples",
        "codemmlu/dataset/question_set.py",
        "row.answer and row.task_id not in self.holdout)",
        "row.answer)",
        (HOLDOUT,),
        "Questions that are asked would be learnt from with their answers.",
    ),
    Mutation(
        "holdout-takes-the-first-rows",
        "codemmlu/dataset/examples.py",
        "    labelled.sort(key=lambda q: digest(holdout.seed, q.task_id, q.question, q.choices))\n",
        "",
        (HOLDOUT,),
        "A sorted file would be asked about its first subject alone.",
    ),
    Mutation(
        "fitted-on-what-is-asked",
        "codemmlu/dataset/question_set.py",
        'if part == "fit" and content_key(q) not in asked\n',
        'if part == "fit"\n',
        (SPLIT,),
        "Weights and temperatures would be fitted on the answers of the questions that are voted on.",
    ),
    Mutation(
        "trained-on-what-is-asked",
        "codemmlu/training/training_set.py",
        'if part in ("train", "tune") and not leaves',
        'if part in ("train", "tune")',
        (CURRICULUM,),
        "A model would be fine-tuned on the questions that it is asked.",
    ),
)

CLEANING = (
    Mutation(
        "one-based-read-as-zero-based",
        "codemmlu/dataset/answers.py",
        'int(number[1]) - (form == "one-based")',
        "int(number[1])",
        (ANSWERS,),
        "Every right letter would be the one after it.",
    ),
    Mutation(
        "option-columns-sorted-as-text",
        "codemmlu/dataset/columns.py",
        "ordered = sorted((int(k) if k.isdigit() else string.ascii_lowercase.index(k), name) for k, name in named)",
        "ordered = [(int(k) if k.isdigit() else string.ascii_lowercase.index(k), name) for k, name in sorted(named)]",
        (CLEAN,),
        "With choice_10 before choice_2 the right letter would name another choice.",
    ),
    Mutation(
        "repeated-task-id-accepted",
        "codemmlu/dataset/cleaner.py",
        "        self._seen[name] = _Claim(record.file, location, content)\n",
        "",
        (CLEAN,),
        "Two questions would share a line of submission.csv.",
    ),
    Mutation(
        "rejected-rows-not-counted",
        "codemmlu/dataset/loader.py",
        "self.rejected += 1",
        "pass",
        (SOURCE,),
        "Rows that cannot be asked would be gone without a word.",
    ),
    Mutation(
        "limit-off-by-one",
        "codemmlu/dataset/loader.py",
        "if self.questions == self.settings.limit:",
        "if self.questions - 1 == self.settings.limit:",
        (SOURCE,),
        "One question more than the limit would be asked and paid for.",
    ),
    Mutation(
        "submission-without-rejected-rows",
        "codemmlu/report/submission.py",
        "for r in rejected if r.task_id is not None)",
        "for r in rejected if r.task_id is None)",
        (SUBMISSION,),
        "A grader would refuse a file that lacks the ids of rejected rows.",
    ),
)

RETRIEVAL = (
    Mutation(
        "question-is-its-own-example",
        "codemmlu/retrieval/retriever.py",
        "        others = [one for one in candidates if one.task_id != own and not (fit and one.twin == twin)]\n"
        "        seen = filter_candidates(self._policy, own, twin, others)",
        "        others = [one for one in candidates if not (fit and one.twin == twin)]\n"
        '        seen = filter_candidates(self._policy, "", twin, others)',
        (LIBRARY,),
        "A question would be shown with its own answer.",
    ),
    Mutation(
        "question-sees-its-twin",
        "codemmlu/retrieval/selection.py",
        'if policy.exclude == "same" and candidate.twin == twin:',
        'if policy.exclude == "same" and candidate.task_id == twin:',
        (LIBRARY,),
        "A copy of a labelled question under another name would give its answer away.",
    ),
    Mutation(
        "fitted-example-sees-its-twins",
        "codemmlu/retrieval/retriever.py",
        "one.task_id != own and not (fit and one.twin == twin)",
        "one.task_id != own",
        (LIBRARY,),
        "Weights would be fitted on examples that have their own answer before them.",
    ),
    Mutation(
        "equally-near-in-order-of-arrival",
        "codemmlu/retrieval/selection.py",
        "key=lambda c: (-round(c.similarity, DIGITS), c.row)",
        "key=lambda c: -c.similarity",
        (LIBRARY,),
        "Which of equal examples is shown would depend on the batch that the question was embedded in.",
    ),
    Mutation(
        "diversity-knows-the-last-one-only",
        "codemmlu/retrieval/selection.py",
        "likeness = np.maximum(likeness, vectors @ vectors[best])",
        "likeness = vectors @ vectors[best]",
        (LIBRARY,),
        "A third example could be a copy of the first.",
    ),
    Mutation(
        "retrieval-abstains-at-its-threshold",
        "codemmlu/inference/votes.py",
        "answer.retrieved[0].similarity < settings.abstain_below",
        "answer.retrieved[0].similarity <= settings.abstain_below",
        (VIEWS,),
        "An example that is exactly near enough would not count.",
    ),
)

RESUME = (
    Mutation(
        "unasked-counts-as-abstained",
        "codemmlu/inference/votes.py",
        'status: VoteStatus = answer.status if answer else "failed"',
        'status: VoteStatus = answer.status if answer else "abstained"',
        (VIEWS,),
        "Questions that a stopped run never asked would count as wrong.",
    ),
    Mutation(
        "failed-counts-as-done",
        "codemmlu/inference/answer_store.py",
        "return keys[~failed], keys[failed]",
        "return keys, keys[failed]",
        (PENDING,),
        "What failed would never be asked again.",
    ),
    Mutation(
        "first-answer-counts-even-if-failed",
        "codemmlu/inference/answer_store.py",
        'return answer.status == "failed", answer.started',
        "return False, answer.started",
        (VIEWS,),
        "A question that was answered at the second try would stay failed.",
    ),
    Mutation(
        "last-block-not-written",
        "codemmlu/inference/backlog.py",
        "    if waiting:\n        write()",
        "    if len(waiting) == block:\n        write()",
        (PENDING,),
        "The last questions of a run would never be asked.",
    ),
    Mutation(
        "right-letter-goes-to-the-engine",
        "codemmlu/inference/backlog.py",
        '{**vars(question), "answer": None, "split"',
        '{**vars(question), "split"',
        (PENDING,),
        "What answers a question could see its answer.",
    ),
    Mutation(
        "cascade-asks-everything",
        "codemmlu/inference/driver.py",
        "write_backlog(target, answered, items(run, stage, partial(_unclear, context)), parameters)",
        "write_backlog(target, answered, items(run, stage, lambda _: _Everything()), parameters)",
        (STAGES,),
        "The dear voter of a cascade would be asked every question.",
    ),
    Mutation(
        "resumed-run-forgets-its-later-stages",
        "codemmlu/inference/driver.py",
        "return session.stages[number:], replace(",
        "return session.stages[number : number + 1], replace(",
        (STAGES,),
        "A run that is resumed would end before the voters that wait for others are asked.",
    ),
    Mutation(
        "file-written-in-place",
        "codemmlu/run_dir/directory.py",
        'temporary = f"{folder}/.{leaf}.{uuid.uuid4().hex}.part"',
        "temporary = target",
        (RUN_DIR,),
        "A kill while a block is written would leave half a file under its name.",
    ),
)

STATISTICS = (
    Mutation(
        "wilson-with-the-wrong-z",
        "codemmlu/report/statistics.py",
        "_Z = NormalDist().inv_cdf(1 - LEVEL / 2)",
        "_Z = NormalDist().inv_cdf(1 - LEVEL)",
        (STATISTICAL,),
        "Intervals said to hold 95 of 100 would hold 90.",
    ),
    Mutation(
        "mcnemar-one-sided",
        "codemmlu/report/statistics.py",
        "return min(1.0, 2 * float(special.bdtr(",
        "return min(1.0, float(special.bdtr(",
        (STATISTICAL,),
        "Chance differences would be called differences twice as often.",
    ),
    Mutation(
        "holm-not-monotonic",
        "codemmlu/report/statistics.py",
        "most = max(most, min(1.0, values[index] * (len(values) - rank)))",
        "most = min(1.0, values[index] * (len(values) - rank))",
        (STATISTICAL,),
        "A pair with a larger p could be corrected to a smaller one.",
    ),
    Mutation(
        "ranks-by-uncorrected-p",
        "codemmlu/report/statistics.py",
        "if pair.p_holm < LEVEL:",
        "if pair.p < LEVEL:",
        (STATISTICAL,),
        "Among many voters some would be ranked apart by chance.",
    ),
    Mutation(
        "interval-narrower-than-its-test",
        "codemmlu/report/statistics.py",
        "return min(low, least), max(high, most)",
        "return low, high",
        (STATISTICAL,),
        "An interval would leave zero out where the exact test beside it sees no difference.",
    ),
    Mutation(
        "bins-weigh-the-same",
        "codemmlu/report/statistics.py",
        "sum(row.count * abs(row.said - row.right) for row in bins) / len(stated)",
        "sum(abs(row.said - row.right) for row in bins) / len(bins)",
        (STATISTICAL,),
        "One answer in a bin of its own would weigh as much as thousands in another.",
    ),
    Mutation(
        "coverage-of-what-was-answered",
        "codemmlu/report/statistics.py",
        "asked = int(counted.sum())\n    usable =",
        "asked = int((counted & np.isfinite(column.sure)).sum())\n    usable =",
        (STATISTICAL,),
        "A voter that is silent on half the questions would seem to cover all of them.",
    ),
    Mutation(
        "skipped-counts-as-wrong",
        "codemmlu/report/score_table.py",
        "(self.status != FAILED) & (self.status != _SKIPPED)",
        "self.status != FAILED",
        (SUMMARY,),
        "A cascade's dear voter would be wrong on everything that it was never asked.",
    ),
    Mutation(
        "abstentions-left-out-of-accuracy",
        "codemmlu/report/score_table.py",
        "counted: Bits = self.labelled & column.asked",
        "counted: Bits = self.labelled & column.asked & (column.letters >= 0)",
        (SUMMARY,),
        "A voter could become better by answering only what it is sure of.",
    ),
    Mutation(
        "time-of-a-span-inside-another",
        "codemmlu/voting/costs.py",
        "union[-1] = (union[-1][0], max(union[-1][1], end))",
        "union[-1] = (union[-1][0], end)",
        (SUMMARY,),
        "A long answer beside a short one would take no longer than the short one.",
    ),
)

CATALOGUE = (*SCORING, *VOTING, *KEYS, *SPLITS, *CLEANING, *RETRIEVAL, *RESUME, *STATISTICS)
