import threading

from mlcli.io.tally import OTHER, SYSTEM, Tally


def test_each_file_counts_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tally = Tally()
    assert tally.summary() == "" and not tally.met_images
    for path in ("a.png", "b.png", tmp_path / "a.png", "./b.png"):
        tally.add_read(path)
    assert tally.summary() == "2 images read"
    tally.leave_out("a.png", "image{s} that cannot be read")  # it was decoded, and then could not serve
    tally.leave_out(tmp_path / "a.png", "image{s} that cannot be read")
    assert tally.summary() == "1 image read; left out: 1 image that cannot be read"


def test_kinds_are_listed_by_their_number():
    tally = Tally()
    endings = [".txt"] * 3 + [".json"] * 2 + [".a", ".b", ".c", ".d"]
    for number, ending in enumerate(endings):
        tally.leave_out(f"{number}{ending}", OTHER, ending)
    tally.leave_out("@eaDir", SYSTEM, "@eaDir")
    assert not tally.met_images  # nothing but files that are none
    assert tally.summary() == (
        "0 images read; left out: 9 other files (3 .txt, 2 .json, 1 .a, 1 .b and 2 more kinds), "
        "1 folder of the system (1 @eaDir)"
    )
    tally.leave_out("x.heic", "image{s} in formats that are not read", "HEIC")
    assert tally.met_images


def test_notes_are_of_what_was_read():
    tally = Tally()
    for name in ("a.tif", "b.tif", "c.tif"):
        tally.add_read(name)
        tally.note(name, "of several pages")
    tally.leave_out("b.tif", "image{s} that cannot be read")
    assert "2 images read" in tally.summary() and "; 2 of several pages (a.tif, …)" in tally.summary()


def test_threads_count_together():
    tally = Tally()

    def work(first):
        for number in range(first, first + 500):
            tally.add_read(f"{number}.png")
            tally.leave_out(f"{number}.txt", OTHER, ".txt")

    threads = [threading.Thread(target=work, args=(250 * part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.summary() == "2,250 images read; left out: 2,250 other files (2,250 .txt)"


def test_files_that_are_met_no_more_are_kept_as_numbers():
    tally, whole = Tally(), Tally()
    for number in range(30):
        for each in (tally, whole):
            each.add_read(f"{number}.png")
            if number % 5 == 0:
                each.note(f"{number}.png", "of several pages")
            if number % 10 == 3:
                each.leave_out(f"{number}.png", "image{s} that cannot be read")  # in the same generation, or the next
        if number % 7 == 0:
            tally.settle()
    assert tally.summary() == whole.summary() and "27 images read" in tally.summary()
    assert len(tally._now.read) + len(tally._before.read) <= 14
    whole.add(tally.counts())
    assert "54 images read; left out: 6 images that cannot be read; 12 of several pages (0.png, …)" in whole.summary()
