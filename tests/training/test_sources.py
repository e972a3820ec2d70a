"""The same images through a folder, an archive and the Hub are the same data set."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from loopback_hub import LoopbackHub, plain_client, skip_waits

from training.dataset import Dataset, build_dataset, load_rasters, open_dataset
from training.errors import DataError
from training.sources import ParquetSource, hub_source, open_source

REPO = "tester/chest-xray"
MEMBERS = {"train": "train", "val": "validation", "test": "test"}
"""Name of each folder's split in the Parquet files of the Hub."""


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[LoopbackHub]:
    """An empty Hub that this process's client takes for the real one, with a cache of its own."""
    skip_waits(monkeypatch)
    with plain_client(monkeypatch, tmp_path / "home"), LoopbackHub() as hub:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + template)
        yield hub


def contents(images: Path) -> dict[str, bytes]:
    """Every shipped image by its path."""
    return {path.relative_to(images).as_posix(): path.read_bytes() for path in sorted(images.glob("*/*/*.jpeg"))}


def archive(members: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def kaggle(files: dict[str, bytes]) -> dict[str, bytes]:
    """Members as in Kaggle's archive: the tree, the tree again inside itself, and a Mac's files."""
    members = {}
    for file, content in files.items():
        folder, name = file.rsplit("/", 1)
        members[f"chest_xray/__MACOSX/chest_xray/{folder}/._{name}"] = b"\x00\x05\x16\x07 resource fork"
        members[f"chest_xray/__MACOSX/chest_xray/{folder}/{name}"] = b"\x00\x05\x16\x07 resource fork"
        members[f"chest_xray/chest_xray/{file}"] = content
        members[f"chest_xray/chest_xray/{folder}/.DS_Store"] = b"Bud1"
        members[f"chest_xray/{file}"] = content
        members[f"chest_xray/{folder}/.DS_Store"] = b"Bud1"
        members[f"__MACOSX/chest_xray/{folder}/._{name}"] = b"\x00\x05\x16\x07 resource fork"
    return members


def parquet(rows: list[dict], row_group_size: int = 4, **columns) -> bytes:
    """A Parquet file of the Hub: `image`, a struct of bytes and path, and `label`."""
    schema = {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64(), **columns}
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, pa.schema(schema)) as writer:
        writer.write_table(pa.Table.from_pylist(rows, pa.schema(schema)), row_group_size=row_group_size)
    return sink.getvalue()


def shards(
    files: dict[str, bytes],
    count: int = 2,
    label: Callable[[str], object] = ("NORMAL", "PNEUMONIA").index,
    path: Callable[[str], str | None] = lambda file: file.rsplit("/", 1)[1],
    splits: dict[str, str] = MEMBERS,
    label_type: pa.DataType | None = None,
) -> dict[str, bytes]:
    """Images as Parquet files named as on the Hub, such as data/train-00000-of-00002.parquet."""
    result = {}
    for folder, split in splits.items():
        rows = [
            {"image": {"bytes": content, "path": path(file)}, "label": label(file.split("/")[1])}
            for file, content in files.items()
            if file.startswith(f"{folder}/")
        ]
        for number in range(count):
            part = rows[number * len(rows) // count : (number + 1) * len(rows) // count]
            result[f"data/{split}-{number:05}-of-{count:05}.parquet"] = parquet(part, label=label_type or pa.int64())
    return result


def as_folder(images, tmp_path, hub):
    return str(images)


def as_folder_above(images, tmp_path, hub):
    shutil.copytree(images, tmp_path / "above" / "more" / "chest_xray")
    (tmp_path / "above" / "__MACOSX").mkdir()
    return str(tmp_path / "above")


def as_zip(images, tmp_path, hub):
    return str(archive(contents(images), tmp_path / "archive.zip"))


def as_kaggle_zip(images, tmp_path, hub):
    return str(archive(kaggle(contents(images)), tmp_path / "archive.zip"))


def as_zip_named_otherwise(images, tmp_path, hub):
    return str(archive(contents(images), tmp_path / "download"))


def as_hub_images(images, tmp_path, hub):
    hub.put(REPO, "dataset", {"README.md": b"# Images\n", **contents(images)})
    return f"hub:{REPO}"


def as_hub_images_below(images, tmp_path, hub):
    hub.put(REPO, "dataset", {f"data/{file}": content for file, content in contents(images).items()})
    return f"hub:{REPO}"


def as_hub_zip(images, tmp_path, hub):
    path = archive(kaggle(contents(images)), tmp_path / "archive.zip")
    hub.put(REPO, "dataset", {"chest_xray.zip": path.read_bytes()})
    return f"hub:{REPO}"


def as_hub_parquet(images, tmp_path, hub):
    hub.put(REPO, "dataset", {"README.md": b"# Images\n", **shards(contents(images))})
    return f"hub:{REPO}"


def as_hub_parquet_at_a_branch(images, tmp_path, hub):
    hub.put(REPO, "dataset", shards(contents(images)))
    return f"hub:{REPO}@main"


def as_hub_parquet_with_names(images, tmp_path, hub):
    hub.put(REPO, "dataset", shards(contents(images), label=str, label_type=pa.string()))
    return f"hub:{REPO}"


def as_hub_parquet_with_small_names(images, tmp_path, hub):
    hub.put(REPO, "dataset", shards(contents(images), label=str.lower, label_type=pa.string()))
    return f"hub:{REPO}"


def as_hub_parquet_with_whole_paths(images, tmp_path, hub):
    hub.put(REPO, "dataset", shards(contents(images), path=lambda file: f"chest_xray/{file}"))
    return f"hub:{REPO}"


def as_hub_parquet_in_one_file_a_split(images, tmp_path, hub):
    files = shards(contents(images), count=1)
    hub.put(REPO, "dataset", {path.replace("-00000-of-00001", ""): content for path, content in files.items()})
    return f"hub:{REPO}"


LOCAL = [as_folder, as_folder_above, as_zip, as_kaggle_zip, as_zip_named_otherwise]
REMOTE = [
    as_hub_images,
    as_hub_images_below,
    as_hub_zip,
    as_hub_parquet,
    as_hub_parquet_at_a_branch,
    as_hub_parquet_with_names,
    as_hub_parquet_with_small_names,
    as_hub_parquet_with_whole_paths,
    as_hub_parquet_in_one_file_a_split,
]


def normal(file: str) -> str:
    """The Parquet files call val "validation"."""
    return re.sub("^validation/", "val/", file)


def normal_images(dataset: Dataset) -> set[tuple]:
    return {
        (normal(image.file), image.sha256, image.split, image.label, image.patient, image.subtype, image.width)
        for image in dataset.images
    }


@pytest.mark.parametrize("way", LOCAL + REMOTE)
def test_every_way_gives_the_same_data(images, tmp_path, hub, way):
    source = open_source(way(images, tmp_path, hub))
    assert source.files() == sorted(source.files())
    assert {normal(file): source.read(file) for file in source.files()} == contents(images)
    dataset = build_dataset(source)
    expected = build_dataset(open_source(images))
    assert normal_images(dataset) == normal_images(expected)
    if "parquet" not in way.__name__:
        assert dataset.fingerprint == expected.fingerprint


@pytest.mark.parametrize("way", LOCAL + REMOTE)
def test_location_of_a_manifest_opens_the_same_files_again(images, tmp_path, hub, way):
    built = build_dataset(open_source(way(images, tmp_path, hub)))
    built.save(tmp_path / "dataset.json")
    dataset, source = open_dataset(tmp_path / "dataset.json")
    assert dataset == built
    assert source.location == built.location
    pixels, labels = load_rasters(source, dataset.images)
    assert len(pixels) == len(labels) == len(built.images)


def test_all_parquet_layouts_have_one_fingerprint(images, tmp_path, hub):
    fingerprints = set()
    for way in REMOTE:
        if "parquet" in way.__name__:
            hub.repos.clear()
            fingerprints.add(build_dataset(open_source(way(images, tmp_path, hub))).fingerprint)
    assert len(fingerprints) == 1


def test_parquet_without_validation_has_the_fingerprint_of_the_folder(images, tmp_path, hub):
    """The name of that split is all in which the fingerprints differ."""
    folder = Path(shutil.copytree(images, tmp_path / "chest_xray"))
    shutil.rmtree(folder / "val")
    hub.put(REPO, "dataset", shards(contents(folder), splits={"train": "train", "test": "test"}))
    assert build_dataset(hub_source(REPO)).fingerprint == build_dataset(open_source(folder)).fingerprint


# --- the Hub ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", REMOTE)
def test_hub_is_pinned_by_its_commit(images, tmp_path, hub, way):
    location = way(images, tmp_path, hub)
    source = open_source(location)
    commit = hub.sha(REPO, "dataset")
    assert source.location == f"hub:{REPO}@{commit}"
    expected = {file: source.read(file) for file in source.files()}

    # What is committed later belongs to another location.
    shift = {"test/NORMAL/IM-0005-0001.jpeg": b"another", "chest_xray.zip": b"PK", "data/test-1.parquet": b"another"}
    hub.put(REPO, "dataset", shift)
    again = open_source(source.location)
    assert again.location == source.location
    assert {file: again.read(file) for file in again.files()} == expected


@pytest.mark.parametrize("way", [as_hub_images, as_hub_zip, as_hub_parquet])
def test_pinned_location_opens_without_network(images, tmp_path, hub, way):
    location = open_source(way(images, tmp_path, hub)).location
    hub.stop()
    hub.requests.clear()
    assert len(open_source(location).files()) == len(contents(images))
    assert hub.requests == []


def test_only_images_are_downloaded(images, hub):
    hub.put(REPO, "dataset", {**contents(images), "model.safetensors": b"weights", "train.csv": b"a,b\n"})
    hub_source(REPO)
    assert not [path for _, path in hub.requests if path.endswith((".safetensors", ".csv"))]
    assert [path for _, path in hub.requests if path.endswith(".jpeg")]


def test_the_default_is_the_set_that_the_project_names(hub):
    with pytest.raises(DataError, match="hf-vision/chest-xray-pneumonia is not"):
        hub_source()


def assert_one_line(caught) -> None:
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 40


@pytest.mark.parametrize(
    ("location", "match"),
    [
        ("hub:tester/absent", "tester/absent is not"),
        (f"hub:{REPO}@absent", f"{REPO} is not"),
        (f"hub:{REPO}@{'0' * 40}", f"{REPO} is not"),
        ("hub:", "must exist and be reachable"),
        ("hub:a/b/c", "a/b/c is not"),
        ("hub:not a name", "not a name is not"),
        ("hub:../../etc/passwd", "must exist and be reachable"),
    ],
)
def test_hub_location_that_is_not_there(images, tmp_path, hub, location, match):
    as_hub_images(images, tmp_path, hub)
    with pytest.raises(DataError, match=re.escape(match)) as caught:
        open_source(location)
    assert_one_line(caught)


def test_no_network(images, tmp_path, hub):
    as_hub_images(images, tmp_path, hub)
    hub.stop()
    with pytest.raises(DataError, match="Check the name and the network") as caught:
        hub_source(REPO)
    assert_one_line(caught)


@pytest.mark.parametrize("kind", ["503", "500", "429", "403", "cut", "reset"])
@pytest.mark.parametrize("path", [f"/api/datasets/{REPO}", f"/datasets/{REPO}/resolve"], ids=["list", "file"])
def test_broken_answers_of_the_hub(images, tmp_path, hub, kind, path):
    """The client repeats what may pass; here it never does."""
    as_hub_parquet(images, tmp_path, hub)
    hub.faults.add(kind, path_contains=path, times=1000)
    with pytest.raises(DataError, match="must exist and be reachable") as caught:
        hub_source(REPO)
    assert_one_line(caught)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"README.md": b"# Nothing here\n"},
        {"train/images/a.jpeg": b"1"},
        {"archive.zip": b"not a ZIP archive"},
        {"data/train-00000-of-00001.parquet": b"not Parquet"},
        {"data/train-00000-of-00001.parquet": b""},
        {"data/train-00000-of-00001.parquet": b"PAR1PAR1"},
    ],
    ids=["empty", "no data", "other folders", "no ZIP", "no Parquet", "empty Parquet", "cut Parquet"],
)
def test_hub_repository_without_images(hub, files):
    hub.put(REPO, "dataset", files)
    with pytest.raises(DataError) as caught:
        build_dataset(hub_source(REPO))
    assert_one_line(caught)


# --- Parquet ----------------------------------------------------------------------------------------------------


def written(files: dict[str, bytes], folder: Path) -> ParquetSource:
    paths = []
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        paths.append(folder / path)
    return ParquetSource(sorted(paths), "here")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parquet_without_paths_loses_no_image(images, tmp_path, count):
    """Names are then made up; shards must not be given the same ones."""
    source = written(shards(contents(images), count=count, path=lambda file: None), tmp_path)
    read = sorted((normal(file).rsplit("/", 1)[0], source.read(file)) for file in source.files())
    assert read == sorted((file.rsplit("/", 1)[0], content) for file, content in contents(images).items())
    dataset = build_dataset(source, 0, 0.2)
    assert len(dataset.images) + len(dataset.left_out) == len(contents(images))
    assert any("names without a patient" in note for note in dataset.notes)


def test_parquet_with_one_path_for_all_loses_no_image(images, tmp_path):
    source = written(shards(contents(images), path=lambda file: "image.jpeg"), tmp_path)
    assert sorted(source.read(file) for file in source.files()) == sorted(contents(images).values())


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
@pytest.mark.parametrize("row_group_size", [1, 3, 1000])
def test_parquet_is_read_in_any_order(images, tmp_path, order, row_group_size):
    files = {file: content for file, content in contents(images).items() if file.startswith("train/")}
    rows = [
        {"image": {"bytes": content, "path": file.rsplit("/", 1)[1]}, "label": int("PNEUMONIA" in file)}
        for file, content in files.items()
    ]
    source = written({"train-0.parquet": parquet(rows, row_group_size)}, tmp_path)
    names = source.files()
    assert names == sorted(files)
    if order == "backward":
        names = names[::-1]
    if order == "shuffled":
        names = names[::2] + names[1::2] + names[:3]
    for name in names:
        assert source.read(name) == files[name]


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (2, pa.int64()),
        (-1, pa.int64()),
        (None, pa.int64()),
        ("VIRUS", pa.string()),
        ("", pa.string()),
        (None, pa.string()),
        (0.5, pa.float64()),
    ],
)
def test_parquet_with_other_labels(tmp_path, label, kind):
    rows = [{"image": {"bytes": b"1", "path": "a.jpeg"}, "label": label}]
    source = written({"train-0.parquet": parquet(rows, label=kind)}, tmp_path)
    with pytest.raises(DataError, match=re.escape(f"train-0.parquet has {label!r}")) as caught:
        build_dataset(source)
    assert_one_line(caught)


@pytest.mark.parametrize(
    "table",
    [
        {"image": [b"1"], "label": [0]},
        {"image": ["a.jpeg"], "label": [0]},
        {"picture": [{"bytes": b"1", "path": "a.jpeg"}], "label": [0]},
        {"image": [{"bytes": b"1", "path": "a.jpeg"}]},
        {"image": [{"bytes": b"1"}], "label": [0]},
        {"image": [{"path": "a.jpeg"}], "label": [0]},
        {"text": ["a"]},
    ],
)
def test_parquet_without_the_columns(tmp_path, table):
    pq.write_table(pa.table(table), tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match=r"train-0\.parquet has") as caught:
        build_dataset(ParquetSource([tmp_path / "train-0.parquet"], "here"))
    assert_one_line(caught)


@pytest.mark.parametrize("path", ["data/0000.parquet", "default/train/0000.parquet", "data/dev-0.parquet"])
def test_parquet_whose_name_says_no_split(images, tmp_path, path):
    rows = [{"image": {"bytes": b"1", "path": "a.jpeg"}, "label": 0}]
    with pytest.raises(DataError, match="train, val, validation, test") as caught:
        build_dataset(written({path: parquet(rows)}, tmp_path))
    assert_one_line(caught)


def test_damaged_parquet(images, tmp_path):
    """Wherever the damage is, all images come, perhaps one of them damaged, or a refusal."""
    whole = shards(contents(images), count=1, splits={"train": "train"})["data/train-00000-of-00001.parquet"]
    refusals = []
    for number in range(40):
        data = bytearray(whole)
        start = 4 + number * (len(data) - 44) // 40
        data[start : start + 40] = bytes(value ^ 0xFF for value in data[start : start + 40])
        path = tmp_path / f"train-{number}.parquet"
        path.write_bytes(data)
        try:
            source = ParquetSource([path], "here")
            read = [source.read(file) for file in source.files()]
        except DataError as error:
            refusals.append(str(error))
        else:
            assert len(read) == len(list(images.glob("train/*/*.jpeg")))
    assert refusals
    assert not [text for text in refusals if "\n" in text]


@pytest.mark.parametrize("image", [{"bytes": None, "path": "IM-9999-0001.jpeg"}, {"bytes": b"", "path": None}, None])
def test_parquet_row_without_content_is_left_out(images, tmp_path, image):
    files = shards(contents(images))
    files["data/train-00002-of-00003.parquet"] = parquet([{"image": image, "label": 0}])
    dataset = build_dataset(written(files, tmp_path))
    whole = build_dataset(open_source(images))
    assert len(dataset.left_out) == len(whole.left_out) + 1
    assert normal_images(dataset) == normal_images(whole)


def test_parquet_whose_bytes_are_text_opens_no_file(images, tmp_path):
    """A text would be taken for the path of a file of this machine."""
    path = str(images / "train/NORMAL/IM-0125-0001.jpeg")
    table = pa.table({"image": [{"bytes": path, "path": "IM-9999-0001.jpeg"}], "label": [0]})
    pq.write_table(table, tmp_path / "train-0.parquet")
    source = ParquetSource([tmp_path / "train-0.parquet"], "here")
    with pytest.raises(DataError, match="must hold the bytes"):
        source.read("train/NORMAL/IM-9999-0001.jpeg")


def test_parquet_has_no_such_file(images, tmp_path):
    source = written(shards(contents(images)), tmp_path)
    with pytest.raises(DataError, match=r"test/NORMAL/absent\.jpeg"):
        source.read("test/NORMAL/absent.jpeg")


# --- folders and archives ---------------------------------------------------------------------------------------


def nothing(path):
    pass


def text_file(path):
    path.write_text("train/NORMAL")


def empty_file(path):
    path.write_bytes(b"")


def image_file(path):
    path.write_bytes(b"\xff\xd8\xff\xe0 and so on")


@pytest.mark.parametrize("make", [text_file, empty_file, image_file])
def test_file_that_is_no_archive(tmp_path, make):
    make(tmp_path / "data")
    with pytest.raises(DataError, match="is neither") as caught:
        open_source(tmp_path / "data")
    assert_one_line(caught)


@pytest.mark.parametrize("location", ["absent", "absent/more", ""])
def test_no_such_path(tmp_path, location, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"does not exist|must hold") as caught:
        open_source(location)
    assert_one_line(caught)


def empty_folder(path):
    path.mkdir()


def folder_of_folders(path):
    (path / "train" / "NORMAL").mkdir(parents=True)


def folder_of_loose_images(path):
    path.mkdir()
    (path / "IM-0001-0001.jpeg").write_bytes(b"1")


def folder_of_other_classes(path):
    (path / "train" / "normal").mkdir(parents=True)
    (path / "train" / "normal" / "IM-0001-0001.jpeg").write_bytes(b"1")


def folder_of_other_files(path):
    (path / "train" / "NORMAL").mkdir(parents=True)
    (path / "train" / "NORMAL" / "IM-0001-0001.dcm").write_bytes(b"1")


def empty_archive(path):
    archive({}, path)


def archive_of_text(path):
    archive({"train/NORMAL/readme.txt": b"1"}, path)


def archive_of_resource_forks(path):
    archive({"__MACOSX/train/NORMAL/IM-0001-0001.jpeg": b"1", "train/NORMAL/._IM-0001-0001.jpeg": b"1"}, path)


@pytest.mark.parametrize(
    "make",
    [
        empty_folder,
        folder_of_folders,
        folder_of_loose_images,
        folder_of_other_classes,
        folder_of_other_files,
        empty_archive,
        archive_of_text,
        archive_of_resource_forks,
    ],
)
def test_nothing_laid_out_as_the_data_set(tmp_path, make):
    make(tmp_path / "data")
    with pytest.raises(DataError, match="must hold") as caught:
        open_source(tmp_path / "data")
    assert_one_line(caught)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-30],
        lambda data: data.replace(b"PK\x01\x02", b"PK\xff\xff"),
        # The comment's length and the end's signature stay, the directory it points to does not.
        lambda data: b"\x00" * (len(data) - 22) + data[-22:],
    ],
    ids=["half", "no end", "damaged directory", "no directory"],
)
def test_damaged_archive(images, tmp_path, damage):
    path = archive(contents(images), tmp_path / "archive.zip")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        open_source(path)
    assert_one_line(caught)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_member_is_left_out(images, tmp_path, method):
    file = "test/NORMAL/IM-0005-0001.jpeg"
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", method) as target:
        for name, content in contents(images).items():
            target.writestr(name, content)
        start = target.getinfo(file).header_offset + 30 + len(file)
    data = bytearray(path.read_bytes())
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    source = open_source(path)
    with pytest.raises(DataError, match=file) as caught:
        source.read(file)
    assert_one_line(caught)
    assert file in {item.file for item in build_dataset(source).left_out}


def test_encrypted_member_is_left_out(images, tmp_path):
    file = "test/NORMAL/IM-0005-0001.jpeg"
    path = archive(contents(images), tmp_path / "archive.zip")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as reader:
        offset = reader.getinfo(file).header_offset
    data[offset + 6] |= 1
    central = data.index(b"PK\x01\x02", data.rindex(file.encode()) - 60)
    data[central + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=file):
        open_source(path).read(file)


@pytest.mark.parametrize("way", [as_folder, as_zip])
def test_no_such_image(images, tmp_path, way):
    source = open_source(way(images, tmp_path, None))
    with pytest.raises(DataError, match=r"test/NORMAL/absent\.jpeg") as caught:
        source.read("test/NORMAL/absent.jpeg")
    assert_one_line(caught)


@pytest.mark.parametrize(
    "name", ["a.jpeg", "a.jpg", "a.png", "a.JPEG", "a.JPG", "a.Png", "two words.jpeg", "lüftung.jpeg", "a.b.jpeg"]
)
def test_names_of_images(images, tmp_path, name):
    content = (images / "train/NORMAL/IM-0125-0001.jpeg").read_bytes()
    (tmp_path / "folder/train/NORMAL").mkdir(parents=True)
    (tmp_path / "folder/train/NORMAL" / name).write_bytes(content)
    for source in (
        open_source(tmp_path / "folder"),
        open_source(archive({f"train/NORMAL/{name}": content}, tmp_path / "archive.zip")),
    ):
        assert source.files() == [f"train/NORMAL/{name}"]
        assert source.read(f"train/NORMAL/{name}") == content


def test_of_nested_trees_the_one_nearest_the_top_counts(tmp_path):
    """Kaggle's copy inside the tree may lack images; a folder of old experiments below does not join in."""
    files = {
        "data/train/NORMAL/a.jpeg": b"outer",
        "data/backup/train/NORMAL/a.jpeg": b"inner",
        "data/backup/train/NORMAL/b.jpeg": b"inner",
    }
    for path, content in files.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(content)
    for source in (open_source(tmp_path / "folder"), open_source(archive(files, tmp_path / "archive.zip"))):
        assert source.files() == ["train/NORMAL/a.jpeg"]
        assert source.read("train/NORMAL/a.jpeg") == b"outer"
