from pathlib import Path

from mlcli.data import sources
from mlcli.data.sources import Source, find_images


def test_a_further_kind_of_source_is_one_entry(tmp_path, monkeypatch):
    """Here: a text file that ends as .list, with a path on each line."""
    (tmp_path / "some.list").write_text("b.png\na.png\n")

    def find(name, found):
        for line in Path(name).read_text().splitlines():
            sources.add(str(Path(name).parent / line), found)

    monkeypatch.setattr(sources, "SOURCES", [Source(lambda name: name.endswith(".list"), find), *sources.SOURCES])
    assert [path.name for path in find_images([tmp_path / "some.list", tmp_path / "c.png"]).paths] == [
        "b.png", "a.png", "c.png",
    ]  # fmt: skip
