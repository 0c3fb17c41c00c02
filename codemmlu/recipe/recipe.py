"""The whole recipe: all sections, and the checks across sections."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Self

import yaml
from pydantic import Field, model_validator

from codemmlu.recipe.base import Name, Settings
from codemmlu.recipe.data import ExampleSettings, QuestionSettings, is_answered_set
from codemmlu.recipe.finetune import FinetuneSettings
from codemmlu.recipe.models import ModelSettings
from codemmlu.recipe.output import FITTED_RULES, ReportSettings, SubmissionSettings, VoteSettings
from codemmlu.recipe.voters import (
    ARTEFACT_VOTERS,
    AskedVoter,
    EvidenceVoter,
    ModelVoter,
    ProbeVoter,
    RetrieveVoter,
    SubmissionVoter,
    VerifyVoter,
    VoterSettings,
    WhenSettings,
    adapter_names,
    model_name,
    uses_examples,
    when_of,
)


class Recipe(Settings):
    """The configuration of a whole run."""

    out: str
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    # GPUs that the cluster may grow to, such as 4x1xL4: four nodes with one L4 each. None: the GPUs that it has.
    gpus: str | None = None
    questions: QuestionSettings = QuestionSettings()
    examples: ExampleSettings = ExampleSettings()
    models: dict[Name, ModelSettings] = Field(default_factory=dict)
    voters: dict[Name, VoterSettings]
    vote: VoteSettings = VoteSettings()
    submission: SubmissionSettings = SubmissionSettings()
    finetune: FinetuneSettings | None = None  # None: nothing is trained
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _names_point_somewhere(self) -> Self:
        if not self.voters:
            raise ValueError("voters: at least one is needed")
        if "vote" in self.voters:
            raise ValueError("voters.vote: the report calls the verdicts so; choose another name")
        for name, voter in self.voters.items():
            if isinstance(voter, ModelVoter | ProbeVoter) and voter.model not in self.models:
                known = ", ".join(self.models) or "none"
                raise ValueError(f"voters.{name}.model: there is no model {voter.model!r}; models: {known}")
            if isinstance(voter, RetrieveVoter | EvidenceVoter | ProbeVoter) and voter.pool in self.models:
                raise ValueError(
                    f"models.{voter.pool}: voters.{name} keeps its answers under that name; choose another"
                )
            if uses_examples(voter) and not (self.examples.source or self.examples.index):
                raise ValueError(f"voters.{name}: needs solved examples; give examples.source, or examples.index")
            if isinstance(voter, EvidenceVoter | ProbeVoter) and not self.examples.source:
                raise ValueError(
                    f"voters.{name}: learns on solved examples what a finding is worth; give examples.source"
                )
            if isinstance(voter, VerifyVoter) and voter.threshold == "fit" and not self.vote.fit:
                raise ValueError(f"voters.{name}.threshold: to fit it give vote.fit, such as vote.fit.limit=300")
            _check_when(name, self.voters)
            _check_artefacts(name, self)
        _check_vote(self.vote, self.voters)
        _check_finetune(self)
        _check_same_set(self)
        for name in self.report.order_sensitivity:
            if name not in self.voters:
                raise ValueError(f"report.order_sensitivity: there is no voter {name!r}; {_known(self.voters)}")
            if isinstance(self.voters[name], SubmissionVoter):
                raise ValueError(f"report.order_sensitivity: {name} cannot be asked anything; name another voter")
            if when_of(self.voters[name]):
                raise ValueError(f"report.order_sensitivity: {name} is asked some questions only; name another voter")
        if self.vote.fit and self.examples.exclude == "task_id":
            raise ValueError("examples.exclude: with vote.fit examples are asked, and would see themselves; use same")
        if self.vote.fit and not self.examples.source:
            raise ValueError("vote.fit: what is fitted is fitted on solved examples; give examples.source")
        if not self.out.strip():
            raise ValueError("out: the run needs a directory")
        return self

    @property
    def asked(self) -> dict[str, "AskedVoter"]:
        """Return the voters that need inference, by name."""
        return {name: voter for name, voter in self.voters.items() if not isinstance(voter, SubmissionVoter)}

    def as_yaml(self) -> str:
        """Return the resolved recipe as the text that the run directory keeps."""
        values = self.model_dump(mode="json", exclude_none=True)
        # On one line each, as credentials are removed from lines.
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=2**31)


def _known(voters: Iterable[str]) -> str:
    return f"voters: {', '.join(voters)}"


def _check_vote(vote: VoteSettings, voters: Mapping[str, VoterSettings]) -> None:
    """Refuse a vote that names an unknown voter, or a rule that needs fitting without `vote.fit`."""
    if vote.rule in FITTED_RULES and not vote.fit:
        raise ValueError(f"vote.rule: {vote.rule} is fitted on solved examples; give vote.fit, or choose log_pool")
    for name in vote.order or ():
        if name not in voters:
            raise ValueError(f"vote.order: there is no voter {name!r}; {_known(voters)}")


def _check_finetune(recipe: "Recipe") -> None:
    """Refuse training without a model or examples, or a voter that uses the weights with another model."""
    settings = recipe.finetune
    if settings is None:
        return
    if settings.model not in recipe.models:
        raise ValueError(f"finetune.model: there is no model {settings.model!r}; models: {', '.join(recipe.models)}")
    if not recipe.examples.source:
        raise ValueError("finetune: trains on solved examples; give examples.source")
    for name, voter in recipe.voters.items():
        if settings.name in adapter_names(voter) and model_name(voter) != settings.model:
            raise ValueError(
                f"voters.{name}.adapter: {settings.name} is trained for {settings.model}, not {model_name(voter)}"
            )


def _check_same_set(recipe: "Recipe") -> None:
    """Refuse the benchmark with its answers as examples for its own questions."""
    examples, questions = recipe.examples, recipe.questions
    if is_answered_set(examples.source) and is_answered_set(questions.source) and not examples.allow_same_set:
        raise ValueError(
            f"examples.source: {examples.source} has the answers to these questions; take other examples, or set "
            "examples.allow_same_set=true and name that beside every figure"
        )


def _check_artefacts(name: str, recipe: "Recipe") -> None:
    """Refuse a cascade that spares questions by an artefact voter, where totals without it are reported."""
    when = when_of(recipe.voters[name])
    for other in when.names if when else ():
        if isinstance(recipe.voters[other], ARTEFACT_VOTERS) and recipe.report.artefacts == "both":
            raise ValueError(
                f"voters.{name}.when: {other} is an artefact voter, and no total without it exists where it spares "
                "questions; set report.artefacts=only_with"
            )


def _waiting_key(when: WhenSettings | None) -> str:
    return "undecided_by" if when and when.undecided_by else "of"


def _check_when(name: str, voters: Mapping[str, VoterSettings]) -> None:
    """Refuse a cascade that waits for an unknown voter, for a voter that is never unsure, or for itself."""
    waits: list[tuple[str, tuple[str, ...]]] = [(name, (name,))]
    seen = {name}  # Many ways may lead to a voter; one is enough.
    while waits:
        voter, path = waits.pop()
        when = when_of(voters[voter])
        key = f"voters.{voter}.when.{_waiting_key(when)}"
        for other in when.names if when else ():
            if isinstance(voters.get(other), SubmissionVoter):
                raise ValueError(f"{key}: {other} is never unsure, it says letters alone")
            if other not in voters:
                raise ValueError(f"{key}: there is no voter {other!r}; {_known(voters)}")
            if other == name:
                raise ValueError(
                    f"voters.{name}.when.{_waiting_key(when_of(voters[name]))}: it waits for itself: "
                    f"{' -> '.join((*path, name))}"
                )
            if other not in seen:
                seen.add(other)
                waits.append((other, (*path, other)))
