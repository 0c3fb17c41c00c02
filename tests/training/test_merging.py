"""Merged models: what a model keeps beside its weights and tokenizer is merged along."""

import json
from pathlib import Path

from codemmlu.training.merging import merged
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
