"""Architectures as their own libraries build them, at small size: λ_max against a dense Hessian in float64."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from sharpscope import InputError, Objective, top_eigenvalues

transformers = pytest.importorskip("transformers")

VOCABULARY, TOKENS = 13, 6
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def text(rows: int = 5, seed: int = 0) -> dict[str, torch.Tensor]:
    """Token ids with padding at the end of some rows."""
    draws = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (rows, TOKENS), generator=draws)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    mask[2, 3:] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def labelled() -> dict[str, torch.Tensor]:
    batch = text()
    return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


def images(rows: int = 3, size: int = 4, channels: int = 1) -> torch.Tensor:
    return torch.randn(rows, channels, size, size, generator=torch.Generator().manual_seed(1))


def _decoder(name: str, **more: Any) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(
        vocab_size=VOCABULARY,
        hidden_size=4,
        intermediate_size=6,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8,
        **IDS,
        **more,
    )
    return getattr(transformers, f"{name}ForCausalLM")(config)


def gpt2() -> nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=VOCABULARY, n_positions=8, n_embd=4, n_layer=2, n_head=2, **IDS)
    )


def _bert(head: str, **more: Any) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=6,
        max_position_embeddings=8,
        **IDS,
        **more,
    )
    return getattr(transformers, f"BertFor{head}")(config)


def t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=4,
        d_kv=2,
        d_ff=6,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        **IDS,
    )
    return transformers.T5ForConditionalGeneration(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=6,
        image_size=4,
        patch_size=2,
        num_channels=1,
        num_labels=3,
    )
    return transformers.ViTForImageClassification(config)


def clip() -> nn.Module:
    shared = {
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 6,
        "projection_dim": 4,
    }
    config = transformers.CLIPConfig(
        text_config={**shared, "vocab_size": VOCABULARY, "max_position_embeddings": 8, **IDS},
        vision_config={**shared, "image_size": 4, "patch_size": 2, "num_channels": 1},
        projection_dim=4,
    )
    return transformers.CLIPModel(config)


def whisper() -> nn.Module:
    config = transformers.WhisperConfig(
        vocab_size=VOCABULARY,
        d_model=4,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=6,
        decoder_ffn_dim=6,
        num_mel_bins=2,
        max_source_positions=4,
        max_target_positions=8,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **IDS,
    )
    return transformers.WhisperForConditionalGeneration(config)


def mamba() -> nn.Module:
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=4,
        state_size=2,
        num_hidden_layers=1,
        expand=2,
        conv_kernel=2,
        **IDS,
    )
    return transformers.MambaForCausalLM(config)


ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "GPT-2": (gpt2, text),
    "Llama": (lambda: _decoder("Llama"), text),
    "Qwen2": (lambda: _decoder("Qwen2"), text),
    "Mixtral": (
        lambda: _decoder(
            "Mixtral", num_local_experts=2, num_experts_per_tok=1, experts_implementation="eager"
        ),
        text,
    ),
    "Mamba": (mamba, lambda: {"input_ids": text()["input_ids"]}),
    "BERT": (lambda: _bert("MaskedLM"), labelled),
    "BERT classifier": (
        lambda: _bert("SequenceClassification", num_labels=3),
        lambda: {**text(), "labels": torch.tensor([0, 1, 2, 1, 0])},
    ),
    "T5": (t5, labelled),
    "ViT": (vit, lambda: {"pixel_values": images(), "labels": torch.tensor([0, 2, 1])}),
    "CLIP": (clip, lambda: {**text(3), "pixel_values": images()}),
    "Whisper": (
        whisper,
        lambda: {
            "input_features": torch.randn(5, 2, 8, generator=torch.Generator().manual_seed(2)),
            "labels": labelled()["labels"],
        },
    ),
}


def made(name: str) -> tuple[nn.Module, Any]:
    build, batch = ARCHITECTURES[name]
    torch.manual_seed(3)
    model = build().double()
    with torch.no_grad():
        for (
            parameter
        ) in model.parameters():  # away from where the library begins: nearly linear and symmetric
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, batch()


def dense(obj: Objective) -> torch.Tensor:
    return torch.cat([obj.hvp(block) for block in torch.eye(obj.size, dtype=torch.float64).split(64)])


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_lambda_max_is_that_of_the_dense_hessian(name: str):
    model, batch = made(name)
    obj = Objective.from_transformers(model, batch)
    hessian = dense(obj)
    # some of these networks compute norms and positions in float32 whatever their weights are
    assert float((hessian - hessian.T).abs().max()) < 1e-5 * float(hessian.abs().max())
    v = torch.randn(obj.size, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    h = 1e-4
    theta = obj.flat()
    central = (obj.gradient(theta + h * v) - obj.gradient(theta - h * v)) / (2 * h)
    assert float((hessian @ v - central).norm()) < 1e-2 * float(central.norm())
    exact = float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])
    assert top_eigenvalues(obj, tol=1e-4).value == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("name", ["GPT-2", "Llama", "BERT", "BERT classifier", "T5", "ViT", "Whisper"])
def test_the_loss_is_the_library_s_own(name: str):
    model, batch = made(name)
    labels = batch.get("labels")
    if labels is None:
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    model.eval()
    with torch.no_grad():
        inputs = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
        own = float(model(**{**inputs, "labels": labels}).loss)
    assert Objective.from_transformers(model, batch).loss() == pytest.approx(own, rel=1e-6)


def test_batches_count_by_their_labels_however_they_are_cut():
    model, batch = made("GPT-2")
    whole = Objective.from_transformers(model, batch, chunk_tokens=None)
    cut = Objective.from_transformers(model, batch, chunk_tokens=TOKENS)
    assert len(list(cut.evaluator.batches)) == 5
    assert len(list(whole.evaluator.batches)) == 1
    assert cut.n_samples == whole.n_samples == 5 * (TOKENS - 1) - 2 - 3
    torch.testing.assert_close(cut.gradient(), whole.gradient(), rtol=1e-10, atol=1e-12)


def test_training_mode_has_a_fingerprint_that_knows_where_batches_are_cut():
    model, batch = made("GPT-2")
    whole = Objective.from_transformers(model, batch, chunk_tokens=None, mode="train")
    cut = Objective.from_transformers(model, batch, chunk_tokens=TOKENS, mode="train")
    assert whole.fingerprint != cut.fingerprint
    assert whole.fingerprint != Objective.from_transformers(model, batch, chunk_tokens=None).fingerprint


def test_rows_without_a_label_that_counts_are_left_out():
    model, batch = made("GPT-2")
    labels = batch["input_ids"].clone()
    labels[3] = -100
    obj = Objective.from_transformers(model, {**batch, "labels": labels}, chunk_tokens=TOKENS)
    assert len(list(obj.evaluator.batches)) == 4


def test_tied_embeddings_are_one_parameter():
    model, batch = made("GPT-2")
    obj = Objective.from_transformers(model, batch)
    assert obj.size == sum(p.numel() for p in model.parameters())


def test_a_loss_of_one_s_own():
    model, batch = made("GPT-2")
    obj = Objective.from_transformers(
        model, batch, loss=lambda outputs, batch: (outputs["logits"].square().mean(), len(batch["input_ids"]))
    )
    with torch.no_grad():
        expected = float(model.eval()(**batch).logits.square().mean())
    assert obj.loss() == pytest.approx(expected)


def test_adapters_are_chosen_by_a_pattern():
    peft = pytest.importorskip("peft")
    model, batch = made("GPT-2")
    adapted = peft.get_peft_model(model.float(), peft.LoraConfig(r=2, target_modules=["c_attn"]))
    obj = Objective.from_transformers(adapted, batch, params="*lora*")
    assert all("lora" in name for name in obj.layout.names)


def test_batches_that_are_no_keyword_arguments_are_refused():
    model, _ = made("GPT-2")
    with pytest.raises(InputError, match="batches of keyword arguments"):
        Objective.from_transformers(model, [torch.ones(2, 3)])


def test_a_batch_without_labels_is_refused():
    model, batch = made("ViT")
    with pytest.raises(InputError, match="needs 'labels'"):
        Objective.from_transformers(model, {"pixel_values": batch["pixel_values"]}).loss()


def test_a_head_it_does_not_know_is_refused():
    with pytest.raises(InputError, match="without a configuration"):
        Objective.from_transformers(nn.Linear(2, 2), [{"x": torch.ones(1, 2)}])
    with pytest.raises(InputError, match="knows the losses of"):
        Objective.from_transformers(_bert("MultipleChoice"), [text()])


@pytest.mark.parametrize("library", ["timm", "diffusers"])
def test_networks_of_other_libraries(library: str):
    pytest.importorskip(library)
    if library == "timm":
        small = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2, "mlp_ratio": 2}
        model = importlib.import_module("timm").create_model(
            "vit_tiny_patch16_224", in_chans=1, num_classes=2, **small
        )
        data = (images(4, 8).double(), torch.tensor([0, 1, 1, 0]))
        obj = Objective(model.double(), functional.cross_entropy, data)
    else:
        unet = (
            importlib.import_module("diffusers")
            .UNet2DModel(
                sample_size=4,
                in_channels=1,
                out_channels=1,
                layers_per_block=1,
                block_out_channels=(2, 2),
                norm_num_groups=1,
                attention_head_dim=1,
                down_block_types=("DownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "UpBlock2D"),
            )
            .double()
        )

        def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, float]:
            return (model(batch["x"], batch["t"]).sample - batch["noise"]).square().mean(), len(batch["x"])

        batch = {"x": images(2).double(), "t": torch.tensor([1, 5]), "noise": images(2).double().flip(0)}
        obj = Objective.from_batch_loss(unet, [batch], loss)
    exact = float(torch.linalg.eigvalsh(dense(obj))[-1])
    assert top_eigenvalues(obj, tol=1e-4).value == pytest.approx(exact, rel=1e-4)
