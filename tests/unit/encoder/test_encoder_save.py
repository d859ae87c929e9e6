import json
import stat

import fsspec
import numpy as np
import pytest
import torch
from encoder_world import KINDS, TEXTS, WIDTH
from peft import PeftModel
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import embed_texts, load_encoder, save_encoder, trim_vocabulary
from xalign_dist.errors import OutputError

HEADS = [("none", None), ("linear", None), ("linear", 5), ("mlp", None), ("mlp", 7)]
CASES = [("bert", *head) for head in HEADS] + [(kind, *head) for kind in KINDS[1:] for head in HEADS[::4]]


def vectors(encoder, texts=TEXTS):
    return embed_texts(encoder, texts, precision="fp32")


def shake(encoder):
    """As if trained: no part is at its start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in encoder.parameters():
            if value.requires_grad:
                value += 0.1 * torch.randn(value.shape, generator=generator)
    return encoder


def cosine(one, other):
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@pytest.mark.parametrize(("kind", "projection", "width"), CASES)
def test_a_saved_encoder_is_the_same_to_us_and_to_sentence_transformers(
    tiny, tmp_path, kind, projection, width
):
    path = str(tmp_path / "model")
    config = EncoderConfig(projection=projection, projection_dim=width)
    encoder = shake(tiny(kind, config))
    trim_vocabulary(encoder, TEXTS)
    save_encoder(encoder, path, "# A card")
    for again in (load_encoder(path, device="cpu"), load_encoder(path, config, "cpu")):
        assert again.dim == encoder.dim == (width or WIDTH)
        assert (again.pooling, again.max_tokens) == (encoder.pooling, encoder.max_tokens)
        np.testing.assert_array_equal(vectors(again), vectors(encoder))
    theirs = SentenceTransformer(path, device="cpu")
    assert theirs.max_seq_length == encoder.max_tokens
    # sentence-transformers divides by zero where a tokenizer gives a text no token at all.
    texts = ["w55 w56", *(t for t in TEXTS if t or kind != "qwen3")]
    assert cosine(theirs.encode(texts), vectors(again, texts)).min() > 0.999999
    assert (tmp_path / "model" / "README.md").read_text() == "# A card"


def test_the_root_is_a_transformers_model(tiny, tmp_path):
    encoder = shake(tiny("xlmr"))
    trim_vocabulary(encoder, TEXTS)
    save_encoder(encoder, str(tmp_path / "model"))
    model, report = AutoModel.from_pretrained(
        tmp_path / "model", add_pooling_layer=False, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    batch = AutoTokenizer.from_pretrained(tmp_path / "model")(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    assert cosine(((states * mask).sum(1) / mask.sum(1)).numpy(), vectors(encoder)).min() > 0.999999


def test_saving_does_not_change_the_live_encoder(tiny, tmp_path):
    encoder = shake(tiny("bert", EncoderConfig(lora_rank=2))).train()
    trim_vocabulary(encoder, TEXTS)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    save_encoder(encoder, str(tmp_path / "model"))
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert encoder.trimmed is not None
    assert encoder.training


@pytest.mark.parametrize("kind", ["xlmr", "qwen3"])
def test_lora_is_merged_into_the_weights_it_adapts(tiny, tmp_path, kind):
    encoder = shake(tiny(kind, EncoderConfig(lora_rank=2)))
    assert np.abs(vectors(encoder) - vectors(tiny(kind))).max() > 1e-3
    save_encoder(encoder, str(tmp_path / "model"))
    saved = load_encoder(str(tmp_path / "model"), device="cpu")
    assert not hasattr(saved.backbone, "peft_config")
    np.testing.assert_allclose(vectors(saved), vectors(encoder), atol=1e-5)


@pytest.mark.parametrize("kind", ["xlmr", "qwen3"])
def test_the_lora_adapter_alone_makes_the_base_model_ours(tiny, tiny_dirs, tmp_path, kind):
    encoder = shake(tiny(kind, EncoderConfig(lora_rank=2)))
    trim_vocabulary(encoder, TEXTS)
    save_encoder(encoder, str(tmp_path / "model"))
    adapter = tmp_path / "model" / "adapter"
    assert sorted(p.name for p in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert (adapter / "adapter_model.safetensors").stat().st_size < 40_000
    again = tiny(kind)
    again.backbone = PeftModel.from_pretrained(again.backbone, str(adapter))
    np.testing.assert_allclose(vectors(again), vectors(encoder), atol=1e-5)


def test_an_orthogonal_head_is_saved_as_its_matrix_and_goes_on_orthogonal(tiny, tmp_path):
    config = EncoderConfig(projection="linear", orthogonal=True)
    encoder = shake(tiny("bert", config))
    save_encoder(encoder, str(tmp_path / "model"))
    saved = load_encoder(str(tmp_path / "model"), config, "cpu")
    np.testing.assert_allclose(vectors(saved), vectors(encoder), atol=1e-5)
    weight = shake(saved).head[0].weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(WIDTH), atol=1e-5, rtol=1e-5)


def test_prefixes_come_back_and_sentence_transformers_adds_the_query_one(tiny, tmp_path):
    encoder = tiny("bert", EncoderConfig(query_prefix="w40 ", passage_prefix="w41 w42 "))
    save_encoder(encoder, str(tmp_path / "model"))
    saved = load_encoder(str(tmp_path / "model"), device="cpu")
    assert (saved.query_prefix, saved.passage_prefix) == ("w40 ", "w41 w42 ")
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert cosine(theirs.encode(["w1 w2"]), vectors(encoder, ["w1 w2"])).min() > 0.999999
    passage = embed_texts(encoder, ["w1 w2"], side="passage", precision="fp32")
    assert cosine(theirs.encode(["w1 w2"], prompt_name="passage"), passage).min() > 0.999999


def test_a_model_saved_before_is_replaced_whole(tiny, tmp_path):
    save_encoder(tiny("bert", EncoderConfig(projection="mlp")), str(tmp_path / "model"), "card")
    save_encoder(tiny("xlmr"), str(tmp_path / "model"))
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "README.md").exists()
    assert not (tmp_path / "model" / "2_Dense").exists()
    assert load_encoder(str(tmp_path / "model"), device="cpu").backbone.config.model_type == "xlm-roberta"


def test_others_may_read_the_weights(tiny, tmp_path):
    save_encoder(tiny("bert", EncoderConfig(projection="linear")), str(tmp_path / "model"))
    for file in (tmp_path / "model").rglob("*.safetensors"):
        assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(
            (tmp_path / "model" / "config.json").stat().st_mode
        )


def contents(place):
    return sorted(place.iterdir()) if place.is_dir() else place.read_text()


def test_what_is_not_ours_is_not_replaced(tiny, tiny_dirs, tmp_path):
    (tmp_path / "notes.txt").write_text("dear")
    for place in (tmp_path, tmp_path / "notes.txt", tiny_dirs["bert"]):
        before = contents(place)
        with pytest.raises(OutputError, match="no model that xalign_dist saved"):
            save_encoder(tiny("xlmr"), str(place))
        assert contents(place) == before


def test_an_empty_directory_is_used(tiny, tmp_path):
    save_encoder(tiny("bert"), str(tmp_path))
    assert load_encoder(str(tmp_path)).dim == WIDTH


def test_a_place_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/model: cannot be written"):
        save_encoder(tiny("bert"), str(tmp_path / "file" / "model"))


def test_a_failure_leaves_the_old_model_and_no_crumbs(tiny, tmp_path):
    save_encoder(tiny("bert"), str(tmp_path / "model"))
    broken = tiny("xlmr")
    broken.tokenizer = None
    with pytest.raises(AttributeError):
        save_encoder(broken, str(tmp_path / "model"))
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert load_encoder(str(tmp_path / "model"), device="cpu").backbone.config.model_type == "bert"


def test_a_model_is_saved_to_any_file_system_and_replaced_there(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XALIGN_CACHE", str(tmp_path))
    fs = fsspec.filesystem("memory")
    uri = "memory://encoder-save/model"
    try:
        for kind in ("bert", "xlmr"):
            save_encoder(tiny(kind), uri)
            saved = load_encoder(uri, device="cpu")
            assert saved.backbone.config.model_type == {"bert": "bert", "xlmr": "xlm-roberta"}[kind]
            np.testing.assert_array_equal(vectors(saved), vectors(tiny(kind)))
        assert [p.rsplit("/", 1)[-1] for p in fs.ls("/encoder-save", detail=False)] == ["model"]
        fs.pipe("/encoder-save/model/config_sentence_transformers.json", json.dumps({}).encode())
        with pytest.raises(OutputError, match="something else than a model of ours"):
            save_encoder(tiny("bert"), uri)
    finally:
        fs.rm("/encoder-save", recursive=True)
    with pytest.raises(OutputError, match="bogus"):
        save_encoder(tiny("bert"), "bogus://x/y")


def test_a_file_uri_is_a_path(tiny, tmp_path):
    save_encoder(tiny("bert"), f"file://{tmp_path}/model")
    assert (tmp_path / "model" / "model.safetensors").exists()
