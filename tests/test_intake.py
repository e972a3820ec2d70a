"""Many files at once: folders, ZIP archives and uploads, and what is examined of them."""

import io
import json
import zipfile

import pytest
from dicom_files import PLANTED, dicom_file

from pneumo import cli, intake
from pneumo.errors import PneumoError
from pneumo.intake import is_batch, sources_of_paths, sources_of_uploads
from pneumo.radiograph import MAX_BYTES, read_radiograph


@pytest.fixture(scope="module")
def jpeg(images) -> bytes:
    return (images / "test" / "NORMAL" / "IM-0005-0001.jpeg").read_bytes()


@pytest.fixture(scope="module")
def dicom(jpeg) -> bytes:
    return dicom_file(read_radiograph(jpeg).pixels, "RLE")


def packed(files: dict[str, bytes], **options) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def answers(sources) -> list[tuple[str, str]]:
    """Name of each source, and what was read or why not."""
    found = []
    for source in sources:
        try:
            found.append((source.name, source.read().name))
        except PneumoError as error:
            found.append((source.name, str(error)))
    return found


def test_archive(jpeg, dicom):
    files = {
        "a/1.jpeg": jpeg,
        "a/IM000001": dicom,
        "a/broken.jpeg": jpeg[:900],
        "a/notes.txt": b"text",
        "DICOMDIR": dicom,
        "__MACOSX/a/._1.jpeg": b"fork",
        "a/.hidden.jpeg": jpeg,
        "b/\x1b[31m.jpeg": jpeg,
    }
    found = answers(sources_of_uploads([("PLANTED.zip", packed(files))]))
    name = read_radiograph(dicom).name
    assert found == [
        ("a/1.jpeg", "a/1.jpeg"),
        ("a/IM000001", name),
        (
            "a/broken.jpeg",
            "A radiograph must decode completely; a/broken.jpeg is truncated or damaged. Copy or export it again.",
        ),
        ("b/?[31m.jpeg", "b/?[31m.jpeg"),
    ]


def test_several_uploads(jpeg, dicom):
    uploads = [("1.jpeg", jpeg), ("PLANTED.dcm", dicom), ("PLANTED.zip", packed({"2.jpeg": jpeg}))]
    found = answers(sources_of_uploads(uploads))
    assert [name for _, name in found] == ["1.jpeg", read_radiograph(dicom).name, "2.jpeg"]
    assert is_batch(uploads)
    assert is_batch(uploads[2:])
    assert not is_batch(uploads[:1])


BAD_ARCHIVES = {
    "nothing to read": (lambda jpeg: packed({"notes.txt": b"text"}), "holds none. Choose another."),
    "nothing at all": (lambda jpeg: packed({"folder/": b""}), "holds none. Choose another."),
    "cut off": (lambda jpeg: packed({"1.jpeg": jpeg})[:-30], "is damaged or encrypted. Make it again."),
    "too many files": (
        lambda jpeg: packed({f"{number}.txt": b"" for number in range(intake.MAX_FILES + 1)}),
        f"may hold at most {intake.MAX_FILES} files",
    ),
    "damaged inside": (
        lambda jpeg: packed({"1.jpeg": jpeg})[:300] + bytes(200) + packed({"1.jpeg": jpeg})[500:],
        "A file in a ZIP archive must be whole and not encrypted; 1.jpeg is not.",
    ),
    "a bomb": (
        lambda jpeg: packed({"1.jpeg": jpeg + bytes(MAX_BYTES)}, compresslevel=9),
        "A file may have at most 64 MiB",
    ),
    "an archive in an archive": (
        lambda jpeg: packed({"1.jpeg": packed({"2.jpeg": jpeg})}),
        "1.jpeg is a ZIP archive",
    ),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_bad_archive(jpeg, name):
    make, words = BAD_ARCHIVES[name]
    found = answers(sources_of_uploads([("PLANTED.zip", make(jpeg))]))
    assert len(found) == 1
    assert words in found[0][1]
    assert not any(planted in text for text in found[0] for planted in PLANTED)


def test_encrypted_archive(jpeg):
    data = bytearray(packed({"1.jpeg": jpeg}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    [(_, words)] = answers(sources_of_uploads([("1.zip", bytes(data))]))
    assert words == "A ZIP archive must be whole and not encrypted; The archive is damaged or encrypted. Make it again."


def test_paths(jpeg, dicom, tmp_path):
    folder, empty = tmp_path / "folder", tmp_path / "empty"
    (folder / "below").mkdir(parents=True)
    empty.mkdir()
    (folder / "below" / "IM1").write_bytes(dicom)
    (folder / "1.JPEG").write_bytes(jpeg)
    (folder / "notes.txt").write_text("text")
    (tmp_path / "all.zip").write_bytes(packed({"a/2.jpeg": jpeg, "a/IM2": dicom}))
    found = answers(sources_of_paths([folder, empty, tmp_path / "all.zip", tmp_path / "absent.jpeg"]))
    name = read_radiograph(dicom).name
    assert found == [
        (str(folder / "1.JPEG"), str(folder / "1.JPEG")),
        (str(folder / "below" / "IM1"), name),
        (str(empty), f"A folder must hold JPEG, PNG or DICOM files; {empty} holds none. Name another."),
        (f"{tmp_path}/all.zip/a/2.jpeg", f"{tmp_path}/all.zip/a/2.jpeg"),
        (f"{tmp_path}/all.zip/a/IM2", name),
        (
            str(tmp_path / "absent.jpeg"),
            f"A radiograph must be a file that can be opened; {tmp_path / 'absent.jpeg'}: No such file or directory. "
            "Check the path.",
        ),
    ]


def test_command_line_reads_an_archive(jpeg, dicom, tmp_path, capsys):
    path = tmp_path / "all.zip"
    path.write_bytes(packed({"1.jpeg": jpeg, "PLANTED": dicom, "broken.jpeg": jpeg[:900]}))
    assert cli.main(["predict", "--models", "cnn", "--format", "json", str(path)]) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["file"] for record in records] == [
        f"{path}/1.jpeg",
        read_radiograph(dicom).name,
        f"{path}/broken.jpeg",
    ]
    assert ["error" in record for record in records] == [False, False, True]
