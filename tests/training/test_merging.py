"""Merged models: what a model keeps beside its weights and tokenizer is merged along."""

import json
from pathlib import Path

from codemmlu.engine.lora import LEARNT
from codemmlu.engine.model_source import Model, validate
from codemmlu.training.merging import merge_adapter, merged
from tests.support.adapters import layers, write_adapter
from tests.support.tiny_model import tiny_model


def test_a_template_in_a_file_of_its_own_is_kept(tmp_path: Path) -> None:
    """Models that also see images keep it so; without it the merged model would be asked in plain words."""
    from transformers import AutoTokenizer

    base = tiny_model(tmp_path / "base")
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}|{% endfor %}"
    for file in base.glob("*.jinja"):
        file.unlink()
    config = json.loads((base / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    (base / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    (tmp_path / "merged").mkdir()
    merged(str(base), None, str(write_adapter(tmp_path / "adapter", layers())), str(tmp_path / "merged"))
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == template


def merged_run(base: Path, run: Path, trust: bool = False) -> Path:
    """Merge an adapter of a run directory into a model, and return the merged model's folder."""
    adapter = write_adapter(run / "adapters" / "tuned", layers())
    (adapter / LEARNT).write_text("[]")
    merge_adapter(str(run), "tuned", Model(str(base), None, "f", None, {}), trust)
    return run / "merged" / "tuned"


def test_further_templates_in_a_folder_are_merged_along(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages[-1].content }}")
    folder = merged_run(base, tmp_path / "run")
    assert (folder / "additional_chat_templates" / "tool_use.jinja").read_text() == "{{ messages[-1].content }}"
    assert (folder / "chat_template.jinja").read_text() == (base / "chat_template.jinja").read_text()


OWN = {
    "configuration_own.py": (
        "from transformers import LlamaConfig\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
    ),
    "modeling_own.py": (
        "from transformers import LlamaForCausalLM\nfrom .configuration_own import OwnConfig\n\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    ),
}


def test_a_models_own_code_is_merged_along(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    for name, code in OWN.items():
        (base / name).write_text(code)
    config = json.loads((base / "config.json").read_text())
    classes = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    }
    (base / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": classes}))
    folder = merged_run(base, tmp_path / "run", trust=True)
    assert json.loads((folder / "config.json").read_text())["auto_map"] == classes
    assert {name: (folder / name).read_text() for name in OWN} == OWN
    assert validate(str(folder), None, str(tmp_path / "cache")).config["model_type"] == "own"
