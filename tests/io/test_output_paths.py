import pytest

from mlcli.errors import UsageError
from mlcli.io.output_paths import KINDS, FolderPath, file_path, folder_path, names_image


def test_a_trailing_slash_makes_a_folder_of_any_name(tmp_path):
    (tmp_path / "there.png").mkdir()
    for text in ("out.png/", str(tmp_path / "there.png")):
        for kind in ("folder", "either"):
            path = KINDS[kind](text)
            assert isinstance(path, FolderPath) and not names_image(path)
            assert isinstance(KINDS[kind](path), FolderPath)  # it stays one when it is read again
    assert names_image(KINDS["either"]("out.png")) and not names_image(KINDS["either"]("out"))
    with pytest.raises(UsageError, match="out.png/ would be one"):
        folder_path("out.png")
    with pytest.raises(UsageError, match="give the name of a file"):
        file_path("out.png/")
