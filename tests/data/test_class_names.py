import json
import unicodedata

import pytest

from mlcli.data.class_names import ClassNames, imagenet, read_class_file
from mlcli.errors import DataError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Épagneul à poil") for form in ("NFC", "NFD"))


@pytest.fixture(scope="module")
def thousand():
    return ClassNames.of(imagenet())


def test_imagenet_has_a_thousand_labels_and_ids(thousand):
    assert len(set(thousand.labels)) == len(set(thousand.wnids)) == 1000
    assert (thousand.labels[0], thousand.wnids[0]) == ("tench", "n01440764")
    assert (thousand.labels[281], thousand.wnids[281]) == ("tabby", "n02123045")
    assert (thousand.labels[999], thousand.wnids[999]) == ("toilet tissue", "n15075141")


@pytest.mark.parametrize(
    "subset, count", [("imagenet-12k", 11821), ("imagenet-22k", 21841), ("imagenet-21k-goog", 21843)]
)
def test_larger_vocabularies(subset, count):
    names = ClassNames.of(imagenet(subset))
    assert len(names.labels) == len(set(names.labels)) == len(names.wnids) == count
    index = names.wnids.index("n01440764")
    assert names.matches("n01440764") == names.matches("Tinca tinca") == [index]


@pytest.mark.parametrize("name", ["tench", "n01440764", "0", "Tinca tinca", "tinca_tinca", "TENCH"])
def test_a_class_by_any_of_its_names(thousand, name):
    assert thousand.matches(name) == [0]


def test_every_label_and_id_stands_for_its_own_class(thousand):
    for names in (thousand.labels, thousand.wnids):
        assert [thousand.matches(name) for name in names] == [[index] for index in range(1000)]


@pytest.mark.parametrize("name, ids", [("crane", ["n02012849", "n03126707"]), ("maillot", ["n03710637", "n03710721"])])
def test_a_name_of_two_classes(thousand, name, ids):
    found = thousand.matches(name)
    assert [thousand.wnids[index] for index in found] == ids
    text = thousand.ambiguity(name, found)
    assert all(wnid in text for wnid in ids) and ":" in text
    assert all(thousand.matches(f"{name} ({wnid})") == [index] for wnid, index in zip(ids, found, strict=True))


@pytest.mark.parametrize("name", ["", "1000", "-1", "²", "n00000000", "tenc", "(", "no such thing"])
def test_what_is_no_class(thousand, name):
    assert thousand.matches(name) == []


def test_a_label_comes_before_a_number_and_a_synonym():
    digits = ClassNames(("1", "0", "7"))
    assert [digits.matches(name) for name in ("1", "0", "7", "2", "3")] == [[0], [1], [2], [2], []]
    assert ClassNames(("Cat", "cat")).matches("cat") == [1]
    assert ClassNames(("Cat", "cat")).matches("CAT") == [0, 1]


def test_names_compare_after_normalization():
    assert ClassNames((COMPOSED, "b")).matches(DECOMPOSED) == [0]
    assert ClassNames((DECOMPOSED, "b")).matches(COMPOSED) == [0]
    assert ClassNames.of([DECOMPOSED]).labels == (DECOMPOSED,)  # the spelling stays


def test_folders_named_by_id_are_synsets_and_others_are_not():
    names = ClassNames.of(["n02123045", "n01440764"])
    assert names == ClassNames(("tabby", "tench"), ("n02123045", "n01440764"))
    assert ClassNames.of(["n02123045", "tench"]) == ClassNames(("n02123045", "tench"))
    assert ClassNames.of(["n00000000"]) == ClassNames(("n00000000",))  # an id that WordNet does not have
    assert ClassNames.of([]) == ClassNames(())


# -- files of names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "cat\ndog\nsea lion\n",
        "\ufeffcat\r\n\r\n dog \r\nsea lion",
        json.dumps(["cat", "dog", "sea lion"]),
        json.dumps({"0": "cat", "2": "sea lion", "1": "dog"}),
        json.dumps({"cat": 0, "dog": 1, "sea lion": 2}),
        json.dumps({"0": ["cat", "n0"], "1": ["dog", "n1"], "2": ["sea lion", "n2"]}),
    ],
)
def test_forms_of_a_class_file(tmp_path, content):
    file = tmp_path / "classes"
    file.write_text(content, "utf-8")
    assert read_class_file(file) == ["cat", "dog", "sea lion"]


def test_names_that_occur_twice_get_their_number(tmp_path):
    file = tmp_path / "imagenet_classes.txt"
    file.write_text(f"crane\ncat\ncrane\n{COMPOSED}\n{DECOMPOSED}\n", "utf-8")
    assert read_class_file(file) == ["crane (0)", "cat", "crane (2)", f"{COMPOSED} (3)", f"{DECOMPOSED} (4)"]


def test_lines_that_begin_with_an_id(tmp_path):
    file = tmp_path / "synset_words.txt"
    file.write_text("n01440764 tench, Tinca tinca\nn02012849\tcrane\n")
    assert read_class_file(file) == ["n01440764", "n02012849"]
    file.write_text("n01440764 tench\ngoldfish\n")
    assert read_class_file(file) == ["n01440764 tench", "goldfish"]


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "no classes"),
        ('{"0": "cat", "2": "dog"}', "from 0 on"),
        ('{"a": "b"}', "from 0 on"),
        ('{"a": null}', "from 0 on"),
        ("[1.5]", "neither a list"),
        ("3", "neither a list"),
        (b"\xff\xfe\x00", "UTF-16 and is broken"),
        (b"caf\xe9", "cannot be read"),
    ],
)
def test_a_class_file_that_is_none(tmp_path, content, words):
    file = tmp_path / "classes"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=words) as error:
        read_class_file(file)
    assert str(file) in str(error.value)


def test_an_absent_class_file(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_class_file(tmp_path / "absent")
