from pathlib import Path

from detcam.sources import find_images


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_folders_globs_and_lists(tmp_path):
    make(tmp_path, "a/1.jpg", "a/b/2.PNG", "a/notes.md", "c/3.jpeg", "c/4.tiff", "odd.name")
    (tmp_path / "list.txt").write_text("# a comment\nc/3.jpeg\n\na\nmissing.jpg\n", encoding="utf-8")
    images, missing = find_images([str(tmp_path / "odd.name"), str(tmp_path / "c" / "*"), str(tmp_path / "list.txt")])
    assert [str(path.relative_to(tmp_path)) for path in images] == [
        "odd.name",
        "c/3.jpeg",
        "c/4.tiff",
        "a/1.jpg",
        "a/b/2.PNG",
    ]
    assert [(Path(item.source).name, item.reason) for item in missing] == [("missing.jpg", "no such file or folder")]


def test_an_image_named_twice_is_taken_once(tmp_path):
    make(tmp_path, "a.jpg")
    images, _ = find_images([str(tmp_path), str(tmp_path / "a.jpg"), str(tmp_path / "*.jpg")])
    assert images == [tmp_path / "a.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    make(tmp_path, "a[1].jpg", "a1.jpg")
    images, missing = find_images([str(tmp_path / "a[1].jpg")])
    assert images == [tmp_path / "a[1].jpg"]
    assert not missing


def test_empty_sources_say_why(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    _, missing = find_images([str(tmp_path / "empty"), str(tmp_path / "empty.txt"), str(tmp_path / "*.bmp")])
    reasons = [item.reason for item in missing]
    assert "no images in this folder" in reasons[0]
    assert reasons[1:] == ["this list names no images", "no image matches this pattern"]
