"""The process that reads one GGUF file and writes a plain model.

transformers makes random numbers of what a file does not hold, and drops what it does not know. Both are refused here,
and the rotary scaling, which transformers drops too, is carried over.

    python -m codemmlu.engine.gguf_reader FILE FOLDER
"""

import ctypes
import math
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codemmlu.engine.gguf import one_of_several
from codemmlu.engine.gguf_header import fault_of
from codemmlu.errors import UserError

# The table by which Llama 3.x scales each rotary frequency, and the numbers that all of its models share.
_LLAMA3_TABLE = "rope_freqs.weight"
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
# The fields `ARCHITECTURE.rope.scaling.*` that a scaling may have, and their names in config.json; None: of no effect.
_SCALING = {
    "type": None,
    "finetuned": None,
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
}


_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def write_plain_model(file: Path, target: Path) -> None:
    """Write a GGUF file's weights and tokenizer as a plain model.

    Args:
        file: The GGUF file.
        target: The folder of the plain model.

    Raises:
        UserError: The file is a part of a model, or lacks something of it, or holds what would be lost.
    """
    if fault := fault_of(file):
        raise UserError(f"{file} cannot be turned into a plain model: {fault}", key="models")
    from gguf import GGUFReader

    reader = GGUFReader(str(file))
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    if (total := int(fields.get("split.count") or 1)) > 1:
        raise UserError(one_of_several(file, int(fields.get("split.no") or 0) + 1, total))
    import torch  # These imports take seconds.
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tables = {tensor.name: tensor.data for tensor in reader.tensors if tensor.name.startswith("rope_f")}
    # Code that lies beside the file is not run, and not asked about.
    name: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    model, report = AutoModelForCausalLM.from_pretrained(
        str(file.parent),
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        output_loading_info=True,
        **name,
    )
    _refuse_incomplete(file, report)
    _refuse_unknown(file, [tensor.name for tensor in reader.tensors], model)
    if scaling := rotary_scaling(file, fields, tables, model.config):
        model.config.rope_parameters = {**(model.config.rope_parameters or {}), **scaling}
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(str(file.parent), **name).save_pretrained(target)


def _refuse_incomplete(file: Path, report: Mapping[str, Any]) -> None:
    """Refuse a file that lacks a tensor of the model, or has one of another shape."""
    missing = sorted(report["missing_keys"])
    mismatched = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report["mismatched_keys"])
    if lacking := [*missing, *mismatched]:
        kind = "lacks" if missing else "has in another shape"
        raise UserError(
            f"models: {file} {kind} {len(lacking):,} tensors of the model, such as {lacking[0]}: an incomplete or "
            "damaged file; copy or convert it again"
        )


def _refuse_unknown(file: Path, names: list[str], model: Any) -> None:
    """Refuse a file with biases that transformers' class of the model has no place for, and so would drop."""
    held = {name.rpartition(".")[0] for name in names if name.startswith("blk.0.") and name.endswith(".bias")}
    has_biases = any(name.endswith(".bias") for name in model.state_dict())
    if held and not has_biases:
        first = sorted(held)[0]
        raise UserError(
            f"models: {file} holds biases (such as {first}.bias) that transformers does not read for a "
            f"{model.config.model_type} model; use the model's safetensors"
        )


def rotary_scaling(
    file: Path, fields: Mapping[str, Any], tables: Mapping[str, Any], config: Any
) -> dict[str, Any] | None:
    """Return the rotary scaling that a GGUF file describes, as the values of config.json's `rope_parameters`.

    A scaling of a kind that is not carried over is a UserError.

    Args:
        file: The file, for error messages.
        fields: The metadata of the file.
        tables: Its tensors of rotary factors.
        config: transformers' configuration of the model, with `rope_parameters` and the size of a head.

    Returns:
        The scaling; None where the positions are not scaled.
    """
    prefix = f"{fields.get('general.architecture')}.rope."
    scaling = {
        key.removeprefix(f"{prefix}scaling."): fields[key] for key in fields if key.startswith(f"{prefix}scaling.")
    }
    kind = str(scaling.get("type", "none"))
    if factor := fields.get(f"{prefix}scale_linear"):  # the field of files from before August 2023
        kind, scaling = "linear", {"factor": factor}
    refusal = UserError(
        f"models: {file} scales its rotary positions ({', '.join(sorted([kind, *tables]))}) in a way that is not "
        "carried over; use the model's safetensors"
    )
    if set(tables) - {_LLAMA3_TABLE}:
        raise refusal
    if _LLAMA3_TABLE in tables:
        llama3 = _llama3(tables[_LLAMA3_TABLE], config)
        if llama3 is None or kind not in ("none", "llama3"):
            raise refusal
        return llama3 or None
    if kind == "none" or config.model_type == "gpt_oss":  # transformers carries that one over.
        return None
    attention = float(scaling.pop("attn_factor", 1.0))
    if kind not in ("linear", "yarn") or "factor" not in scaling or attention != 1.0 or set(scaling) - set(_SCALING):
        raise refusal
    named = {_SCALING[key]: value for key, value in scaling.items()}
    return {"rope_type": kind, **{str(key): value for key, value in named.items() if key}}


def _llama3(table: Any, config: Any) -> dict[str, Any] | None:
    """Return Llama 3's scaling where it gives exactly this table; empty for a table of ones, None for another table."""
    factors = [float(value) for value in table]
    largest = max(factors)
    if all(value == 1 for value in factors):
        return {}
    theta = float((config.rope_parameters or {}).get("rope_theta", 10_000.0))
    size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    expected = llama3_table(theta, size, largest)
    same = len(expected) == len(factors)
    if not same or any(abs(one - other) > 1e-3 * other for one, other in zip(factors, expected, strict=True)):
        return None
    return {"rope_type": "llama3", "factor": largest, **_LLAMA3}


def llama3_table(theta: float, size: int, factor: float) -> list[float]:
    """Return what Llama 3.1 divides each rotary frequency by.

    Args:
        theta: The base of the frequencies.
        size: The width of an attention head.
        factor: What the lowest frequencies are divided by.

    Returns:
        One number for each of the size / 2 frequencies, as llama.cpp's converter writes it.
    """
    low, high, length = (float(_LLAMA3[key]) for key in _LLAMA3)
    table = []
    for pair in range(size // 2):
        wavelength = 2 * math.pi * theta ** (2 * pair / size)
        smooth = min(1.0, max(0.0, (length / wavelength - low) / (high - low)))
        table.append(1 / ((1 - smooth) / factor + smooth))
    return table


def _end_with_parent() -> None:
    """Let the kernel end this process with the one that started it, of which nobody would wait for the result."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that wanted the model has ended")


if __name__ == "__main__":
    _end_with_parent()
    write_plain_model(Path(sys.argv[1]), Path(sys.argv[2]))
