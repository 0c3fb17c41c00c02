"""The method `reason`: the model thinks in free text, then a letter is read."""

from codemmlu.engine.protocol import Engine, Sampling
from codemmlu.inference.methods.base import Method, MethodInput, MethodResult, finite, result, with_tokens
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import AFTER_THINKING, choice_probabilities, pick, render_after, render_thought, thinking_wording
from codemmlu.schema import Turn


async def reason(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Generate a chain of thought in free text, then read a letter, even after a thought that is cut off."""
    assert engine is not None
    question = inputs.question
    prompt = render_thought(question)
    generation = await engine.generate(prompt, Sampling(max_tokens=spec.option("max_tokens")), spec.adapter)
    thought = generation.texts[0].replace("<think>", "").replace("</think>", "").strip()
    after = render_after(prompt, thought, question, spec.template)
    while thought and not engine.fits(engine.tokens(after)):  # The letter needs room, too: the thought loses its end.
        thought = thought[: len(thought) // 2]
        after = render_after(prompt, thought, question, spec.template)
    reading = finite(await engine.score(after, spec.adapter))
    letter = pick(choice_probabilities([reading]))
    turns = [Turn("think", None, None, thought, "none"), Turn("answer", letter, None, "", "exact")]
    return with_tokens(result(letter, [reading], (), turns), generation)


REASON = Method(
    reason, wording=thinking_wording("\0question\0", ("\0first\0", "\0second\0")) + AFTER_THINKING, writes=True
)
