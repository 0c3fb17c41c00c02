"""The scripted engine: a model source that answers by a script, so that a recipe runs in seconds.

    models: {m: {source: scripted}}                 every question gets the letter A
    models: {m: {source: "scripted:script.yaml"}}   a file with the fields of `Script`

A script can also fail on purpose: prompts that are too long, an engine that dies, a worker that is killed.
"""

import asyncio
import itertools
import json
import math
import os
import signal
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from codemmlu.engine.protocol import DoesNotFit, Engine, EngineSettings, Generation, Sampling
from codemmlu.errors import EngineDied, UserError
from codemmlu.mcq import Prompt
from codemmlu.recipe import digest
from codemmlu.recipe.base import Settings
from codemmlu.schema import Reading

SCRIPTED = "scripted"
CORE_PROCESS = "ScriptedCore"
_MAX_TOKENS = 10_000
_LIKELY, _UNLIKELY = math.log(0.7), math.log(0.1)
# The fields that decide the answers, and so the keys of answers. The other fields decide only whether and when.
_DECIDES_ANSWERS = ("answers", "refuted", "replies", "not_finite")


class Script(Settings):
    """The rules of a scripted engine. A "piece" is a text; a prompt that contains this text matches."""

    answers: dict[str, str] = Field(default_factory=dict)  # piece: text of the preferred choice; otherwise letter A
    refuted: tuple[str, ...] = ()  # texts of choices that a check finds FALSE; it finds all others TRUE
    replies: Annotated[tuple[str, ...], Field(min_length=1)] = ("The answer is A.",)  # free texts, in turn
    letter_mass: Annotated[float, Field(gt=0, le=1)] | None = None  # of all letters together; otherwise of four: 1
    seconds: Annotated[float, Field(ge=0)] = 0.0  # that each prompt takes
    log: str | None = None  # each prompt is appended to LOG.PID as a JSON line
    # Failures, each at prompts that match a piece.
    too_long: tuple[str, ...] = ()  # the prompt does not fit
    breaks: tuple[str, ...] = ()  # an unexpected error
    not_finite: tuple[str, ...] = ()  # the last letter's log-probability is -inf
    kills_engine: tuple[str, ...] = ()  # the engine's process ends
    kills_worker: tuple[str, ...] = ()  # the process around the engine ends, as under SIGKILL
    # Failures at the start.
    rejected: str | None = None  # why the model cannot be used, as a UserError
    adapter_rejected: str | None = None  # why an adapter cannot be served, as a UserError
    kills_once: str | None = None  # a file: kills_engine holds only while it does not exist, and creates it
    killed_at_start: bool = False  # the process ends while the engine is opened
    fails_to_open: tuple[str, int] | None = None  # (file, n): the n-th engine cannot be opened; the file counts them
    own_process: bool = False  # a process CORE_PROCESS beside it, as vLLM has; the engine is dead once the process ends


def is_scripted(source: str) -> bool:
    """Return whether a model source names the scripted engine."""
    return source == SCRIPTED or source.startswith(f"{SCRIPTED}:")


def read_script(source: str) -> Script:
    """Read the script that a model source names.

    Args:
        source: `scripted`, or `scripted:` and the path of a YAML file.

    Returns:
        The script; without a file, the default one.

    Raises:
        UserError: The file cannot be read, or is no script.
    """
    path = source.removeprefix(SCRIPTED).removeprefix(":")
    if not path:
        return Script()
    try:
        fields = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"the script {path} cannot be read: {reason}", key="models") from None
    except yaml.YAMLError as error:
        raise UserError(f"the script {path} is not YAML: {str(error).splitlines()[0]}", key="models") from None
    if not isinstance(fields, dict):
        raise UserError(f"the script {path} is no mapping; it may have {', '.join(Script.model_fields)}", key="models")
    try:
        return Script.model_validate(fields)
    except ValidationError as error:
        raise UserError(f"the script {path}: {_first(error)}", key="models") from None


def fingerprint(script: Script) -> str:
    """Return a name of a script's answers, which does not change with its failures, delays and logs."""
    fields = script.model_dump(mode="json", include=set(_DECIDES_ANSWERS))
    return f"{SCRIPTED}/{digest(fields)}"


def open_scripted(settings: EngineSettings) -> Engine:
    """Open a scripted engine. `settings.arguments["script"]` holds the fields of its script."""
    script = Script.model_validate(settings.arguments["script"])
    if script.killed_at_start:
        os.kill(os.getpid(), signal.SIGKILL)
    if script.fails_to_open:
        path, number = script.fails_to_open
        with open(path, "a+", encoding="utf-8") as opened:
            opened.write(".")
            if opened.tell() == number:
                raise UserError("scripted: this engine cannot start")
    if script.kills_once:
        killed = Path(script.kills_once)
        if killed.exists():
            script = script.model_copy(update={"kills_engine": ()})
        killed.touch()
    return ScriptedEngine(script)


class ScriptedEngine:
    """An engine that answers as its script says."""

    def __init__(self, script: Script) -> None:
        """Start the engine, with a process beside it if the script says so."""
        self.script = script
        command = [CORE_PROCESS, "3600"]
        self._process = subprocess.Popen(command, executable="/bin/sleep") if script.own_process else None

    async def check(self, prompt: Prompt) -> None:
        """See Engine."""
        await asyncio.sleep(self.script.seconds)
        if self.script.rejected:
            raise UserError(self.script.rejected)

    async def check_adapter(self, prompt: Prompt, adapter: str) -> None:
        """See Engine."""
        if self.script.adapter_rejected:
            raise UserError(self.script.adapter_rejected)

    async def score(self, prompt: Prompt, adapter: str = "") -> Reading:
        """See Engine. The preferred letter, or word, gets a probability of 0.7 and every other one 0.1."""
        self._append_to_log(prompt, adapter)
        await asyncio.sleep(self.script.seconds)
        self._fail(prompt)
        preferred = self._verdict(prompt) if prompt.words else self._letter(prompt)
        names = prompt.words or prompt.letters
        logprobs = [_LIKELY if name == preferred else _UNLIKELY for name in names]
        mass = sum(map(math.exp, logprobs))
        if self.script.letter_mass:
            logprobs = [value + math.log(self.script.letter_mass / mass) for value in logprobs]
            mass = self.script.letter_mass
        if _matches(prompt, self.script.not_finite):
            logprobs[-1] = -math.inf
        return Reading(prompt.order, tuple(logprobs), mass, self.tokens(prompt), cached_tokens=0)

    async def generate(self, prompt: Prompt, sampling: Sampling, adapter: str = "") -> Generation:
        """See Engine."""
        self._append_to_log(prompt, adapter)
        await asyncio.sleep(self.script.seconds)
        self._fail(prompt)
        texts = tuple(itertools.islice(itertools.cycle(self.script.replies), sampling.n))
        return Generation(texts, self.tokens(prompt), 0, sum(len(text.split()) for text in texts))

    def tokens(self, prompt: Prompt) -> int:
        """See Engine. Each word counts as one token."""
        return sum(len(message.content.split()) for message in prompt.messages)

    def fits(self, tokens: int) -> bool:
        """See Engine."""
        return tokens <= _MAX_TOKENS

    def close(self) -> None:
        """See Engine."""
        if self._process:
            self._process.kill()

    def _append_to_log(self, prompt: Prompt, adapter: str) -> None:
        if self._log is not None:
            line = {"prompt": prompt.messages[-1].content, "adapter": adapter}
            os.write(self._log, (json.dumps(line) + "\n").encode())

    @cached_property
    def _log(self) -> int | None:
        if self.script.log is None:
            return None
        return os.open(f"{self.script.log}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _fail(self, prompt: Prompt) -> None:
        """Fail as the script says for this prompt."""
        script = self.script
        if _matches(prompt, script.kills_worker):
            os.kill(os.getpid(), signal.SIGKILL)
        if _matches(prompt, script.kills_engine) or (self._process and self._process.poll() is not None):
            raise EngineDied("scripted: the engine's process ended")
        if _matches(prompt, script.too_long):
            raise DoesNotFit("the prompt has 9,999 tokens, this engine takes 100")
        if _matches(prompt, script.breaks):
            raise RuntimeError("scripted: broken on \udc80 this")

    def _verdict(self, prompt: Prompt) -> str:
        """Return the preferred word, TRUE or FALSE, of a prompt that checks one choice."""
        text = prompt.messages[-1].content
        return "FALSE" if any(f"\n{choice}\n" in text for choice in self.script.refuted) else "TRUE"

    def _letter(self, prompt: Prompt) -> str:
        return preferred_letter(prompt, self.script.answers)


def preferred_letter(prompt: Prompt, answers: Mapping[str, str]) -> str:
    """Return the letter at which the preferred choice is shown; A where the script has no preference."""
    text = prompt.messages[-1].content
    wanted = next((choice for piece, choice in answers.items() if piece in text), None)
    shown = (letter for letter in prompt.letters if f"\n{letter}. {wanted}\n" in f"{text}\n")
    return next(shown, "A")


def _matches(prompt: Prompt, pieces: tuple[str, ...]) -> bool:
    return any(piece in prompt.messages[-1].content for piece in pieces)


def _first(error: ValidationError) -> str:
    """Describe the first fault of a script, with its key."""
    fault: Any = error.errors()[0]
    key = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{key}: there is no such key; keys: {', '.join(Script.model_fields)}"
    return f"{key}: {fault['msg']} (it is {str(fault['input'])!r})"
