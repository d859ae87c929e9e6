import threading

import numpy as np
import pytest
import torch
from encoder_world import q4_blocks, write_e5_file
from transformers import AutoModel, AutoTokenizer

from xalign_dist.encoder import builtin, embed_texts, load_encoder, trim_vocabulary
from xalign_dist.encoder.builtin import convert, parse_builtin
from xalign_dist.encoder.q4 import dequantise_q4, read_weights
from xalign_dist.errors import DependencyError, ModelError, OutputError

BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])

# Ids of the genuine tokenizer.json of intfloat/multilingual-e5-small.
GENUINE = [
    ("Please correct the error below.", [0, 30607, 26785, 70, 18499, 35064, 5, 2]),
    ("Bitte den folgenden Fehler korrigieren.", [0, 40787, 168, 67184, 81934, 110797, 177, 4921, 5, 2]),
    ("Пожалуйста, исправьте ошибку ниже.", [0, 186690, 3526, 4, 60491, 67668, 94347, 928, 57750, 5, 2]),
    ("请修正以下错误。", [0, 6, 9736, 51573, 11076, 56544, 30, 2]),
    ("このフィールドは必須です。", [0, 11207, 217417, 5283, 7116, 342, 21034, 1453, 30, 2]),
    ("ฟิลด์นี้จำเป็น", [0, 6, 223048, 2417, 114592, 2]),
    ("هذا الحقل مطلوب.", [0, 2433, 30301, 593, 69075, 5, 2]),
    ("%(count)d dosya silindi!", [0, 1745, 132, 71013, 16, 71, 121983, 5795, 19904, 38, 2]),
    ("Dewiswch ffeil", [0, 108334, 7, 9336, 1238, 135191, 2]),
    ("\ufb01ve \u2460 \uff21\u200bB", [0, 43606, 106, 62, 335, 2]),
    ("e\u0301té 👩 x", [0, 5325, 6, 244785, 1022, 2]),
    ("ថ្ងៃនេះ", [0, 6, 184946, 2]),
    ("   two   spaces", [0, 6626, 32628, 7, 2]),
    ("", [0, 2]),
]
PAIRS = [
    ("Please enter your password.", "Bitte geben Sie Ihr Passwort ein."),
    ("The file was deleted.", "Die Datei wurde gelöscht."),
    ("Select a date", "Wählen Sie ein Datum aus"),
    ("This field is required.", "Dieses Feld ist erforderlich."),
    ("January", "Januar"),
    ("You do not have permission to view this page.", "Sie dürfen diese Seite nicht ansehen."),
    ("The email address is invalid.", "Die E-Mail-Adresse ist ungültig."),
    ("Log in again", "Erneut anmelden"),
]


@pytest.mark.parametrize(("spec", "layers"), [("builtin:e5-small", 12), ("builtin:e5-small?layers=4", 4)])
def test_a_spec_names_its_layers(spec, layers):
    assert parse_builtin(spec) == layers


@pytest.mark.parametrize(
    "spec",
    ["e5-large", "", "e5-small?layers=0", "e5-small?layers=13", "e5-small?layers=", "e5-small?depth=3"],
)
def test_a_wrong_spec_is_refused_with_the_right_form(spec):
    with pytest.raises(ModelError, match=r"remedy: use .*layers="):
        load_encoder(f"builtin:{spec}")


def test_dequantising_matches_one_number_at_a_time():
    raw, truth = q4_blocks(np.random.default_rng(0).normal(size=32 * 7).astype(np.float32))
    np.testing.assert_array_equal(dequantise_q4(np.frombuffer(raw, BLOCK)), truth)
    assert len(np.unique(truth)) > 50


def test_low_nibbles_come_first():
    raw = np.float16(2).tobytes() + bytes([0x19, *[0x88] * 15])
    values = dequantise_q4(np.frombuffer(raw, BLOCK))
    assert values[0] == 2 * (9 - 8)
    assert values[16] == 2 * (1 - 8)
    assert not values[1:16].any()


@pytest.fixture
def e5_file(tmp_path):
    path = tmp_path / "e5.bin"
    return path, write_e5_file(path)


def test_a_file_is_read_to_the_value(e5_file):
    path, truth = e5_file
    weights = read_weights(path)
    assert weights.sizes["hidden"] == 8
    assert weights.eps == pytest.approx(1e-12)
    assert weights.special == {"bos": 0, "eos": 2, "pad": 1, "unk": 3}
    assert weights.pieces[5:] == [("▁ab", -1.0), ("c", -3.0), ("é", -4.0)]
    assert weights.tensors.keys() == truth.keys()
    for name, values in truth.items():
        np.testing.assert_array_equal(weights.tensors[name], values)


def test_the_converted_directory_is_a_bert_with_its_tokenizer(e5_file, tmp_path):
    path, truth = e5_file
    convert(path, tmp_path / "cache" / "model")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["model"]
    model, report = AutoModel.from_pretrained(
        tmp_path / "cache" / "model", add_pooling_layer=False, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    state = model.state_dict()
    assert torch.equal(
        state["encoder.layer.1.intermediate.dense.weight"], torch.from_numpy(truth["l1.fi.w"]).view(16, 8)
    )
    assert torch.equal(
        state["embeddings.position_embeddings.weight"], torch.from_numpy(truth["emb.pos"]).view(16, 8)
    )
    assert torch.equal(
        state["encoder.layer.0.attention.output.LayerNorm.bias"], torch.from_numpy(truth["l0.aln.b"])
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "cache" / "model")
    assert tokenizer("ab  cé x")["input_ids"] == [0, 5, 4, 6, 7, 4, 3, 2]
    assert tokenizer.model_max_length == 16


def test_every_cut_of_the_file_is_an_error_and_no_crash(e5_file):
    path, _ = e5_file
    data = path.read_bytes()
    for end in [0, 3, 7, 20, 44, 60, 90, 120, 150, 200, 400, len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:end])
        with pytest.raises(ModelError, match=r"e5\.bin.*\n.*reinstall"):
            read_weights(path)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"E5S2", "format b'E5S2' version 1"),
        (4, b"\x02", "version 2 is not known"),
        (8, b"\xff\xff\xff\xff", "impossible sizes"),
        (40, b"\x40", "block 64"),
        (44, b"\xff\xff\xff\x7f", "damaged or cut off"),
        (48, b"\x63", "special ids"),
        (72, b"\xff", "offsets are not in order"),
        (108, b"\x00\x00\xc0\x7f", "scores are not finite"),
    ],
)
def test_damage_is_named(e5_file, at, value, message):
    path, _ = e5_file
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_weights(path)


def test_a_missing_tensor_is_named(e5_file, tmp_path):
    path, _ = e5_file
    path.write_bytes(path.read_bytes().replace(b"l1.fo.b", b"l1.xx.b"))
    with pytest.raises(ModelError, match=r"tensor l1\.fo\.b is missing"):
        convert(path, tmp_path / "cache" / "model")
    assert not list((tmp_path / "cache").iterdir())


def test_processes_may_convert_at_once(e5_file, tmp_path):
    path, _ = e5_file
    home, failures = tmp_path / "cache" / "model", []
    barrier = threading.Barrier(4)

    def work():
        barrier.wait()
        try:
            convert(path, home)
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [p.name for p in home.parent.iterdir()] == ["model"]
    AutoModel.from_pretrained(home)


def test_a_cache_that_cannot_be_written_is_named(e5_file, tmp_path):
    path, _ = e5_file
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="XALIGN_CACHE"):
        convert(path, tmp_path / "file" / "model")


def test_a_missing_package_names_the_pip_line(monkeypatch):
    monkeypatch.setattr(builtin, "_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(DependencyError, match=r"pip install 'xalign_dist\[quickstart\]'"):
        load_encoder("builtin:e5-small")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XALIGN_CACHE", str(tmp_path / "a"))
    assert builtin.cache_root() == tmp_path / "a"
    monkeypatch.delenv("XALIGN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert builtin.cache_root() == tmp_path / "b" / "xalign_dist"


def test_the_real_model_tokenises_as_the_genuine_one_and_finds_translations():
    encoder = load_encoder("builtin:e5-small?layers=2", device="cpu")
    assert encoder.backbone.config.num_hidden_layers == 2
    assert encoder.dim == 384
    texts, ids = zip(*GENUINE, strict=True)
    assert encoder.tokenize([t.strip() for t in texts]) == list(ids)
    english, german = zip(*PAIRS, strict=True)
    vectors = embed_texts(encoder, [*english, *german])
    found = (vectors[: len(PAIRS)] @ vectors[len(PAIRS) :].T).argmax(1)
    assert (found == np.arange(len(PAIRS))).mean() >= 0.5
    before = embed_texts(encoder, english, precision="fp32")
    trim_vocabulary(encoder, [*english, *german])
    assert encoder.backbone.get_input_embeddings().num_embeddings < 150
    np.testing.assert_array_equal(embed_texts(encoder, english, precision="fp32"), before)
