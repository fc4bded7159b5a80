"""Models of the transformers library from a folder, and the batches that text makes for them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpscope.errors import InputError
from sharpscope.models.pretrained import image_scale, open_pretrained
from sharpscope.models.token_batches import MASKED, blocks_of, labelled_rows

transformers = pytest.importorskip("transformers")

SMALL = {
    "vocab_size": 300,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


def gpt2(**more: Any) -> Any:
    config = transformers.GPT2Config(vocab_size=300, n_positions=16, n_embd=8, n_layer=1, n_head=2, **more)
    return transformers.GPT2LMHeadModel(config)


def bert(head: str = "MaskedLM", **more: Any) -> Any:
    config = transformers.BertConfig(**SMALL, max_position_embeddings=16, **more)
    return getattr(transformers, f"BertFor{head}")(config)


def saved(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    return str(folder)


def with_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5, "b": 6, "c": 7}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


def test_a_causal_model_takes_blocks_of_bytes(tmp_path: Path) -> None:
    opened = open_pretrained(saved(gpt2(), tmp_path / "m"))
    assert (opened.kind, opened.tokenizer, opened.most_tokens) == ("causal language model", None, 16)
    batches, notes = blocks_of(opened, ["abcdefgh", "ij"], 4, None, 0)
    assert [b["input_ids"].shape for b in batches] == [(2, 4), (1, 3)]  # 8 + newline + 2 bytes
    assert batches[0]["input_ids"][0].tolist() == list(b"abcd")
    assert "tokens are the bytes" in notes[0]
    assert notes[1] == "11 tokens in 3 rows of 4."
    few, said = blocks_of(opened, ["abcdefgh" * 4], 4, 3, 0)
    assert few[0]["input_ids"].shape == (3, 4)
    assert "3 of 8 rows, a random subset with seed 0." in said
    assert blocks_of(opened, ["abcdefgh" * 4], None, None, 0)[0][0]["input_ids"].shape == (2, 16)


def test_its_own_tokenizer_is_used(tmp_path: Path) -> None:
    name = saved(gpt2(), tmp_path / "m")
    with_tokenizer(tmp_path / "m")
    opened = open_pretrained(name)
    batches, notes = blocks_of(opened, ["a b c", "c"], 5, None, 0)
    assert batches[0]["input_ids"].tolist() == [[5, 6, 7, 3, 7]]  # the separator between texts
    assert "by its own tokenizer" in notes[0]


def test_a_masked_model_is_asked_for_drawn_tokens(tmp_path: Path) -> None:
    name = saved(bert(), tmp_path / "m")
    with_tokenizer(tmp_path / "m")
    opened = open_pretrained(name)
    batches, notes = blocks_of(opened, ["a b c " * 200], 16, None, 0)
    inputs, labels = batches[0]["input_ids"], batches[0]["labels"]
    assert inputs[:, 0].unique().tolist() == [2]
    assert inputs[:, -1].unique().tolist() == [3]
    told = labels != -100
    assert not told[:, [0, -1]].any()
    assert bool(told.any(1).all())
    assert float(told[:, 1:-1].double().mean()) == pytest.approx(MASKED, abs=0.05)
    masked = inputs[told] == 4
    assert float(masked.double().mean()) == pytest.approx(0.8, abs=0.12)
    assert f"{MASKED:.0%} of the tokens are to be told" in notes[-1]
    again = blocks_of(opened, ["a b c " * 200], 16, None, 0)[0]
    assert all(torch.equal(x["input_ids"], y["input_ids"]) for x, y in zip(batches, again, strict=True))


def test_bytes_of_a_masked_model_have_a_mask_beyond_them(tmp_path: Path) -> None:
    opened = open_pretrained(saved(bert(), tmp_path / "m"))
    batches, _ = blocks_of(opened, ["abcd" * 40], 8, None, 0)
    assert 256 in batches[0]["input_ids"]


def test_rows_with_labels_are_padded(tmp_path: Path) -> None:
    opened = open_pretrained(saved(bert("SequenceClassification", num_labels=3), tmp_path / "m"))
    assert opened.kind == "text classifier"
    labels = torch.tensor([2, 0, 1])
    batches, notes = labelled_rows(opened, ["abc", "a", "x" * 40], labels, None, None, 0)
    (batch,) = batches
    assert batch["attention_mask"].sum(1).tolist() == [1, 3, 16]
    assert batch["labels"].tolist() == [0, 2, 1]
    assert "1 of 3 rows reach 16 tokens; what goes beyond is cut off." in notes
    with pytest.raises(InputError, match="row 2 has none"):
        labelled_rows(opened, ["a", ""], labels[:2], None, None, 0)


def test_the_processor_s_numbers_are_read(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=4,
        patch_size=2,
    )
    opened = open_pretrained(saved(transformers.ViTForImageClassification(config), tmp_path / "m"))
    assert image_scale(opened)[:3] == ((4, 4), [0.0], [1.0])
    said = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(said))
    assert image_scale(opened)[1:3] == ([0.5] * 3, [0.2] * 3)


def test_half_precision_is_measured_at_its_values(tmp_path: Path) -> None:
    opened = open_pretrained(saved(gpt2().bfloat16(), tmp_path / "m"))
    assert {p.dtype for p in opened.model.parameters()} == {torch.float32}
    assert "bfloat16" in opened.notes[-1]


def change(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"architectures": ["GPT2Model"]}, "its configuration names GPT2Model"),
        ({"architectures": ["os.system"]}, "its configuration names os.system"),
        ({"architectures": None}, "no architecture for gpt2"),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            "quantised weights",
        ),
        (
            {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config"}},
            "code of its own, which is not run",
        ),
        ({"n_embd": 10}, "cannot be loaded"),
        ({"n_layer": 2}, "it lacks transformer.h.1"),
    ],
)
def test_what_is_refused_in_a_sentence(tmp_path: Path, entries: dict[str, Any], words: str) -> None:
    name = saved(gpt2(), tmp_path / "m")
    (tmp_path / "m" / "evil.py").write_text("raise SystemExit('the code of a model ran')")
    change(tmp_path / "m", **entries)
    with pytest.raises(InputError, match=words) as told:
        open_pretrained(name)
    assert "\n" not in str(told.value)
    assert "evil" not in sys.modules


def test_pickled_weights_that_would_run_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            import os

            return os.system, ("touch ran",)

    monkeypatch.chdir(tmp_path)
    name = saved(gpt2(), tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Bomb()}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        open_pretrained(name)
    assert not (tmp_path / "ran").exists()


def test_a_kernel_that_a_file_names_is_not_fetched(tmp_path: Path) -> None:
    name = saved(gpt2(), tmp_path / "m")
    change(tmp_path / "m", _attn_implementation="someone/kernel", attn_implementation="someone/kernel")
    assert open_pretrained(name).model.config._attn_implementation == "eager"


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no config.json"):
        open_pretrained(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')
    with pytest.raises(InputError, match=r"is an adapter.*params='\*lora\*'"):
        open_pretrained(str(tmp_path))
    for name in ("./nowhere", "/nowhere", "a/b/c", ""):
        with pytest.raises(InputError, match="there is no folder"):
            open_pretrained(name)


def test_the_hub_out_of_reach_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpscope.data import files

    def unreachable(address: str) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(files, "require_reachable", unreachable)
    with pytest.raises(InputError, match="could not be had from the hub .*check the name and the connection"):
        open_pretrained("someone/no-such-model")


@pytest.mark.parametrize(
    ("texts", "block", "words"),
    [(["a"], 4, "at least two tokens"), (["abc"], 17, "may be 16 for"), ([""], 4, "two tokens")],
)
def test_text_that_makes_no_batches(tmp_path: Path, texts: list[str], block: int, words: str) -> None:
    opened = open_pretrained(saved(gpt2(), tmp_path / "m"))
    with pytest.raises(InputError, match=words):
        blocks_of(opened, texts, block, None, 0)


def test_few_tokens_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=100, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    opened = open_pretrained(saved(transformers.GPT2LMHeadModel(config), tmp_path / "m"))
    with pytest.raises(InputError, match="fewer than the 256 bytes"):
        blocks_of(opened, ["abc"], 4, None, 0)
