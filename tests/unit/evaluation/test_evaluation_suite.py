import pytest
from evaluation_toy_world import write, write_pairs

from xalign_dist.corpora.languages import normalize_language
from xalign_dist.errors import ConfigError, DataError, LanguageError
from xalign_dist.evaluation.suite import load_suite, parse_suite
from xalign_dist.evaluation.tables import load_pairs
from xalign_dist.evaluation.tasks_downstream import load_classification, load_clir, load_mining
from xalign_dist.evaluation.tasks_sentence import load_pool
from xalign_dist.evaluation.tasks_word import load_lexicon, load_word_alignment


def task(**settings):
    return parse_suite({"tasks": [settings]}).tasks[0]


def fault(**settings):
    with pytest.raises(ConfigError) as caught:
        task(**settings)
    return str(caught.value)


def test_a_suite_file_resolves_paths_against_itself_and_expands_variables(tmp_path, monkeypatch):
    write_pairs(tmp_path / "pairs.parquet")
    monkeypatch.setenv("TOY_DATA", str(tmp_path))
    file = tmp_path / "suite.yaml"
    file.write_text(
        "high: [de]\nlow: [gle]\ntasks:\n- {task: retrieval, data: pairs.parquet}\n"
        "- {task: similarity, data: '${TOY_DATA}/pairs.parquet', languages: [de]}\n"
    )
    suite = load_suite(file)
    assert [len(load_pairs(t)) for t in suite.tasks] == [2, 1]
    assert suite.groups(suite.tasks[0]) == {"high": {"deu"}, "low": {"gle"}}


def test_an_unset_variable_is_named(monkeypatch):
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_PLACE is not set"):
        parse_suite({"tasks": [{"task": "retrieval", "data": "$NO_SUCH_PLACE/x.parquet"}]})


def test_faults_of_a_suite_name_the_setting_and_the_remedy():
    assert "did you mean languages?" in fault(task="retrieval", data="x", langages=["deu"])
    assert "tasks.0.task" in fault(task="retreival", data="x")
    assert "it has accuracy, f1, xsim" in fault(task="retrieval", data="x", metrics=["bleu"])
    assert "needs data.queries and data.documents" in fault(task="clir", data="x")
    assert "needs one path" in fault(task="retrieval", data={"queries": "x"})
    assert "shots is a setting of classification" in fault(task="lexicon", data="x", shots=[4])
    assert "data.main.colums" in fault(task="lexicon", data={"path": "x", "colums": {}})
    with pytest.raises(ConfigError, match="two tasks are called retrieval"):
        parse_suite({"tasks": [{"task": "retrieval", "data": "x"}, {"task": "retrieval", "data": "y"}]})
    with pytest.raises(ConfigError, match="tasks"):
        parse_suite({"tasks": []})


def test_names_tell_tasks_of_one_kind_apart():
    suite = parse_suite(
        {"tasks": [{"task": "retrieval", "data": "x"}, {"task": "retrieval", "data": "y", "name": "ntrex"}]}
    )
    assert [t.key for t in suite.tasks] == ["retrieval", "retrieval:ntrex"]


def test_columns_values_filter_and_exclude(tmp_path):
    path = write(
        tmp_path / "t.parquet",
        lang=["de", "de", "fr", "de"],
        english=["one", "two", "three", "four"],
        text=["eins", "zwei", "trois", None],
        split=["test", "dev", "test", "test"],
        label=["", "", "nw", ""],
    )
    base = {
        "task": "retrieval",
        "data": path,
        "columns": {"tgt_lang": "lang", "src": "english", "tgt": "text"},
        "values": {"src_lang": "en"},
    }
    (pairs,) = load_pairs(task(**base, filter={"split": ["test"]}, exclude={"label": ["nw"]}))
    assert (pairs.src_lang, pairs.tgt_lang, pairs.src, pairs.tgt) == ("eng", "deu", ["one"], ["eins"])
    assert [p.tgt_lang for p in load_pairs(task(**base))] == ["deu", "fra"]


def test_faults_of_a_file_name_file_and_column(tmp_path):
    path = write_pairs(tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match=r"gone\.parquet: no such file"):
        load_pairs(task(task="retrieval", data=str(tmp_path / "gone.parquet")))
    with pytest.raises(DataError, match=r"no column 'english' \(it has src_lang"):
        load_pairs(task(task="retrieval", data=path, columns={"src": "english"}))
    with pytest.raises(DataError, match="filter on column 'split'"):
        load_pairs(task(task="retrieval", data=path, filter={"split": "test"}))
    with pytest.raises(DataError, match="no rows left"):
        load_pairs(task(task="retrieval", data=path, filter={"group": "none"}))
    with pytest.raises(DataError, match="no rows for fra"):
        load_pairs(task(task="retrieval", data=path, languages=["fr"]))
    with pytest.raises(LanguageError):
        load_pairs(task(task="retrieval", data=path, languages=["klingonish"]))
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DataError, match=r"torn\.parquet: not readable"):
        load_pairs(task(task="retrieval", data=str(tmp_path / "torn.parquet")))


def test_sentences_become_pairs_through_their_group(tmp_path):
    path = write(
        tmp_path / "s.parquet",
        lang=["eng_Latn", "eng_Latn", "deu_Latn", "gle_Latn", "gle_Latn"],
        doc=["a", "a", "a", "a", "b"],
        line=[1, 2, 1, 2, 9],
        text=["one", "two", "eins", "dó", "other"],
    )
    spec = {"data": path, "columns": {"group": ["doc", "line"]}}
    sets = load_pairs(task(task="retrieval", **spec))
    assert [(p.tgt_lang, p.src, p.tgt) for p in sets] == [
        ("deu", ["one"], ["eins"]),
        ("gle", ["two"], ["dó"]),
    ]
    pool = load_pool(task(task="pooled_retrieval", **spec))
    assert sorted(pool.text) == ["dó", "eins", "one", "two"]
    with pytest.raises(DataError, match="pivot language fra"):
        load_pairs(task(task="retrieval", pivot="fra", **spec))


def test_a_limit_keeps_whole_answers_and_partners(tmp_path):
    lexicon = write(
        tmp_path / "l.parquet",
        src_lang=["eng"] * 4,
        tgt_lang=["deu"] * 4,
        src=["run", "go", "run", "see"],
        tgt=["rennen", "gehen", "laufen", "sehen"],
    )
    (pairs,) = load_lexicon(task(task="lexicon", data=lexicon, limit=2)).pairs
    assert pairs.src == ["run", "go", "run"]
    path = write_pairs(tmp_path / "pairs.parquet")
    pool = load_pool(task(task="pooled_retrieval", data=path, limit=7))
    assert {lang: pool.lang.count(lang) for lang in set(pool.lang)} == {"eng": 7, "deu": 7, "gle": 7}


def test_a_limit_that_cuts_partners_off_leaves_no_sentence_without_one(tmp_path):
    order = [*range(10), *reversed(range(10))]
    path = write(
        tmp_path / "s.parquet",
        lang=["eng"] * 10 + ["deu"] * 10,
        group=[str(i) for i in order],
        text=[f"{lang}:{i}" for lang, i in zip(["eng"] * 10 + ["deu"] * 10, order, strict=True)],
    )
    pool = load_pool(task(task="pooled_retrieval", data=path, limit=7))
    assert sorted(set(pool.group)) == ["3", "4", "5", "6"]
    with pytest.raises(DataError, match="two languages"):
        load_pool(task(task="pooled_retrieval", data=path, limit=5))


def test_mining_files_with_pair_and_side_or_with_languages(tmp_path):
    by_pair = {
        "sentences": {
            "path": write(
                tmp_path / "s.parquet",
                pair=["sw-en"] * 4,
                side=["xx", "xx", "en", "en"],
                sent_id=["x1", "x2", "e1", "e2"],
                text=["moja", "mbili", "one", "two"],
            ),
            "columns": {"id": "sent_id"},
        },
        "gold": {
            "path": write(tmp_path / "g.parquet", pair=["sw-en"], xx_id=["x2"], en_id=["e2"]),
            "columns": {"src_id": "xx_id", "tgt_id": "en_id"},
        },
    }
    (one,) = load_mining(task(task="mining", data=by_pair))
    assert (one.src_lang, one.tgt_lang, one.gold) == (normalize_language("swh"), "eng", {("x2", "e2")})
    assert list(one.src.values()) == ["moja", "mbili"]
    by_lang = {
        "sentences": write(tmp_path / "s2.parquet", id=["a", "b"], lang=["gle", "eng"], text=["haon", "one"]),
        "gold": write(tmp_path / "g2.parquet", src_id=["a"], tgt_id=["b"]),
    }
    (two,) = load_mining(task(task="mining", data=by_lang))
    assert (two.src_lang, two.tgt_lang) == ("gle", "eng")
    by_lang["gold"] = write(tmp_path / "g3.parquet", src_id=["a"], tgt_id=["z"])
    with pytest.raises(DataError, match="pair a, z: no such sentence"):
        load_mining(task(task="mining", data=by_lang))


def test_classification_takes_the_languages_asked_for_and_the_pivot(tmp_path):
    path = write(
        tmp_path / "c.parquet",
        lang=["eng", "eng", "deu", "fra", "fra"],
        split=["train", "validation", "test", "test", "test"],
        text=list("abcde"),
        label=list("xyxyx"),
    )
    data = load_classification(task(task="classification", data=path, languages=["fr"], limit=2))
    assert set(data.parts) == {("eng", "train"), ("eng", "dev"), ("fra", "test")}
    assert data.parts["fra", "test"].text == ["d", "e"]


def test_bad_splits_documents_and_links_are_named(tmp_path):
    labels = write(tmp_path / "c.parquet", lang=["eng"], split=["training"], text=["x"], label=["a"])
    with pytest.raises(DataError, match="split 'training'"):
        load_classification(task(task="classification", data=labels))
    only_test = write(tmp_path / "c2.parquet", lang=["eng"], split=["test"], text=["x"], label=["a"])
    with pytest.raises(DataError, match="no training rows in eng"):
        load_classification(task(task="classification", data=only_test))
    queries = write(tmp_path / "q.parquet", lang=["eng"], text=["who?"], doc=["7"])
    documents = write(tmp_path / "d.parquet", lang=["eng"], text=["nobody"], doc=["8"])
    with pytest.raises(DataError, match="document '7' of query 'who"):
        load_clir(task(task="clir", data={"queries": queries, "documents": documents}))
    links = write(
        tmp_path / "w.parquet",
        src_lang=["eng"],
        tgt_lang=["deu"],
        src_tokens=["a b"],
        tgt_tokens=["c"],
        alignment=["0-1"],
    )
    with pytest.raises(DataError, match="'0-1' outside"):
        load_word_alignment(task(task="word_alignment", data=links))
