import json
import shutil
from pathlib import Path

import fsspec
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from encoder_world import KINDS, TEXTS, WIDTH, words_tokenizer
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from transformers import T5Config, T5Model

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import embed_texts, load_encoder
from xalign_dist.encoder.load import vector_width
from xalign_dist.errors import ModelError


def vectors(encoder):
    return embed_texts(encoder, TEXTS, precision="fp32")


@pytest.fixture
def model(tiny_dirs, tmp_path):
    """A copy of the tiny BERT, to be spoilt."""
    return shutil.copytree(tiny_dirs["bert"], tmp_path / "model")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_loads_in_evaluation_mode_on_the_cpu(tiny, kind):
    encoder = tiny(kind)
    assert not encoder.training
    assert encoder.device == torch.device("cpu")
    assert encoder.dim == WIDTH
    assert all(p.dtype == torch.float32 and p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize(("kind", "longest"), [("bert", 64), ("xlmr", 62), ("qwen3", 64)])
def test_texts_are_cut_at_the_positions_that_the_model_has(tiny, kind, longest):
    encoder = tiny(kind, EncoderConfig(max_tokens=500))
    assert encoder.max_tokens == longest
    with torch.inference_mode():
        encoder(*encoder.collate(encoder.tokenize(["w1 " * 300])))


@pytest.mark.parametrize("spec", ["/no/such/place", "./nothing", "~/nothing-there", "a/b/c", ""])
def test_a_path_that_is_not_there(spec):
    with pytest.raises(ModelError, match="no such directory"):
        load_encoder(spec)


def test_a_file_is_no_model(model):
    with pytest.raises(ModelError, match="is a file"):
        load_encoder(str(model / "config.json"))


def test_a_hub_id_without_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"(?s)somebody/some-model.*hub.*remedy: .*builtin:e5-small"):
        load_encoder("somebody/some-model")


def test_a_hub_id_is_read_from_the_hub_cache(monkeypatch, tiny_dirs, tmp_path, tiny):
    repo, commit = tmp_path / "models--somebody--some-model", "a" * 40
    shutil.copytree(tiny_dirs["xlmr"], repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    encoder = load_encoder("somebody/some-model", device="cpu")
    np.testing.assert_array_equal(vectors(encoder), vectors(tiny("xlmr")))


def test_only_safetensors_are_read(model):
    state = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        load_encoder(str(model))
    torch.save(state, model / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"(?s)only pytorch_model\.bin.*remedy: convert it"):
        load_encoder(str(model))


def test_weights_that_are_missing_are_not_made_up(model):
    state = load_file(model / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing .*encoder\.layer\.1\.output\.dense\.weight"):
        load_encoder(str(model))


def spoil_weights(model):
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[: len(data) // 2])


def spoil_shape(model):
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"intermediate_size": 48}))


def spoil_tokenizer(model):
    for file in model.glob("tokenizer*"):
        file.unlink()


def spoil_kind(model):
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"model_type": "unheard-of"}))


@pytest.mark.parametrize("spoil", [spoil_weights, spoil_shape, spoil_kind, spoil_tokenizer])
def test_a_damaged_directory_is_one_clear_error(model, spoil):
    spoil(model)
    with pytest.raises(ModelError, match=f"{model}: "):
        load_encoder(str(model))


def test_a_tokenizer_of_another_model_is_refused(model):
    tokenizer = words_tokenizer("bert")
    tokenizer.add_tokens([f"more{i}" for i in range(10)])
    tokenizer.save_pretrained(model)
    with pytest.raises(ModelError, match="its tokenizer has 74 ids, its embedding matrix 66 rows"):
        load_encoder(str(model))


def test_an_encoder_with_a_decoder_is_refused(tmp_path):
    config = T5Config(vocab_size=64, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(tmp_path)
    words_tokenizer("bert").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="t5 is an encoder with a decoder"):
        load_encoder(str(tmp_path))


def test_code_that_comes_with_a_model_is_not_run(model, tmp_path):
    trap = tmp_path / "ran"
    (model / "configuration_evil.py").write_text(
        f"open({str(trap)!r}, 'w')\nfrom transformers import BertConfig\nclass EvilConfig(BertConfig): ...\n"
    )
    settings = json.loads((model / "config.json").read_text())
    settings |= {"model_type": "evil", "auto_map": {"AutoConfig": "configuration_evil.EvilConfig"}}
    (model / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError):
        load_encoder(str(model))
    assert not trap.exists()


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
def test_a_directory_of_sentence_transformers_gives_the_same_vectors(model, tmp_path, mode):
    parts = [st.Transformer(str(model), max_seq_length=9), st.Pooling(WIDTH, pooling_mode=mode)]
    torch.manual_seed(0)
    parts += [st.Dense(WIDTH, 10, activation_function=torch.nn.Tanh()), st.Normalize()]
    theirs = SentenceTransformer(modules=parts, device="cpu")
    theirs.save_pretrained(str(tmp_path / "st"))
    encoder = load_encoder(str(tmp_path / "st"), device="cpu")
    assert encoder.pooling == {"lasttoken": "last"}.get(mode, mode)
    assert encoder.max_tokens == 9
    assert encoder.dim == 10
    np.testing.assert_allclose(vectors(encoder), theirs.encode(TEXTS), atol=1e-5)
    assert load_encoder(str(tmp_path / "st"), EncoderConfig(pooling="cls")).pooling == "cls"


def write_modules(model, *modules):
    rows = [("", "Transformer"), *modules]
    rows = [{"idx": i, "name": str(i), "path": p, "type": f"s.models.{k}"} for i, (p, k) in enumerate(rows)]
    (model / "modules.json").write_text(json.dumps(rows))


def write_pooling(model, settings):
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    write_modules(model, ("1_Pooling", "Pooling"))


def test_older_directories_say_the_pooling_by_flags(model):
    write_pooling(model, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    assert load_encoder(str(model)).pooling == "cls"


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode": ["mean", "cls"]},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    ],
)
def test_pooling_of_another_kind_asks_for_a_setting(model, settings):
    write_pooling(model, settings)
    with pytest.raises(ModelError, match=r"set encoder\.pooling"):
        load_encoder(str(model))
    assert load_encoder(str(model), EncoderConfig(pooling="mean")).pooling == "mean"


def test_a_module_of_another_kind_is_not_left_out_in_silence(model):
    write_modules(model, ("1_LSTM", "LSTM"))
    with pytest.raises(ModelError, match="module LSTM"):
        load_encoder(str(model))


def test_a_module_path_cannot_leave_the_model(model):
    write_modules(model, ("../elsewhere", "Pooling"))
    with pytest.raises(ModelError, match="leaves it"):
        load_encoder(str(model))


@pytest.mark.parametrize("text", ["{", "[{}]", "[3]"])
def test_a_damaged_module_list(model, text):
    (model / "modules.json").write_text(text)
    with pytest.raises(ModelError, match=r"modules\.json"):
        load_encoder(str(model))


def test_a_dense_module_needs_safetensors_and_a_known_activation(model):
    write_modules(model, ("1_Dense", "Dense"))
    (model / "1_Dense").mkdir()
    settings = {"in_features": WIDTH, "out_features": 4, "bias": True, "activation_function": "torch.nn.Mish"}
    (model / "1_Dense" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="Mish"):
        load_encoder(str(model))
    settings["activation_function"] = "torch.nn.modules.linear.Identity"
    (model / "1_Dense" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="safetensors only"):
        load_encoder(str(model))


def test_the_default_prompt_of_a_directory_is_a_prefix(model):
    write_modules(model)
    prompts = {"prompts": {"query": "w5 ", "other": "w6 "}, "default_prompt_name": "query"}
    (model / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    encoder = load_encoder(str(model))
    assert (encoder.query_prefix, encoder.passage_prefix) == ("w5 ", "w5 ")
    encoder = load_encoder(str(model), EncoderConfig(query_prefix="w7 "))
    assert encoder.query_prefix == "w7 "


def test_a_model_is_loaded_from_any_file_system_and_fetched_once(tiny_dirs, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XALIGN_CACHE", str(tmp_path))
    fs = fsspec.filesystem("memory")
    fs.put(str(tiny_dirs["bert"]), "/encoder-load", recursive=True)
    try:
        load_encoder("memory://encoder-load", device="cpu")
        with monkeypatch.context() as offline:
            offline.setattr(type(fs), "get_file", None)
            encoder = load_encoder("memory://encoder-load", device="cpu")
        np.testing.assert_array_equal(vectors(encoder), vectors(tiny("bert")))
        assert len(list(tmp_path.iterdir())) == 1
        fs.rm("/encoder-load", recursive=True)
        fs.put(str(tiny_dirs["xlmr"]), "/encoder-load", recursive=True)
        np.testing.assert_array_equal(
            vectors(load_encoder("memory://encoder-load", device="cpu")), vectors(tiny("xlmr"))
        )
    finally:
        fs.rm("/encoder-load", recursive=True)


def test_uris_that_cannot_be_read():
    with pytest.raises(ModelError, match="no such model"):
        load_encoder("memory://nothing-there")
    with pytest.raises(ModelError, match="bogus"):
        load_encoder("bogus://x/y")


def test_a_file_uri_is_a_path(tiny_dirs):
    assert load_encoder(f"file://{tiny_dirs['bert']}").dim == WIDTH


@pytest.mark.parametrize("settings", [{}, {"projection": "mlp", "projection_dim": 96}])
def test_the_width_is_known_without_loading(settings: dict) -> None:
    spec = "builtin:e5-small?layers=1"
    config = EncoderConfig(model=spec, **settings)
    assert vector_width(spec, config) == load_encoder(spec, config).dim


def test_a_width_of_another_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "distilbert", "dim": 48, "n_heads": 4}')
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "tokenizer.json").touch()
    assert vector_width(str(tmp_path)) == 48
