from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.errors import FormatError
from s3dlio.formats.zip_members import member_bytes, read_members

ENTRY, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
NOISE = random.Random(3).randbytes(500)


class Pipe(io.RawIOBase):
    """A file that cannot seek: zipfile then writes sizes and checksum behind the data."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


def archive(files, *, file=None, comment=b"", method=zipfile.ZIP_STORED, wide=False) -> bytes:
    target = io.BytesIO() if file is None else file
    with zipfile.ZipFile(target, "w", method) as writer:
        for name, data in files.items():
            with writer.open(name, "w", force_zip64=wide) as member:
                member.write(data)
        writer.comment = comment
    return target.getvalue() if file is None else bytes(file.data)


def contents(data: bytes, *, verify: bool = True) -> dict[str, bytes]:
    view = memoryview(data)
    found = {}
    for member in read_members(view):
        where, start, end = member_bytes(view, member, verify=verify)
        found[member.name] = bytes(where[start:end])
    return found


def patched(data: bytes, signature: bytes, offset: int, layout: str, value: int) -> bytes:
    """``data`` with one header field changed: the one ``offset`` bytes into the last such header."""
    at = data.rindex(signature)
    changed = bytearray(data)
    struct.pack_into(layout, changed, at + offset, value)
    return bytes(changed)


FILES = {"a": b"", "b/c": NOISE, "\u00fc\U0001f40d": b"xyz" * 400}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("comment", [b"", b"a comment", b"PK\x05\x06" * 3, bytes(0xFFFF)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_reads_what_zipfile_writes(method, comment, wide):
    assert contents(archive(FILES, method=method, comment=comment, wide=wide)) == FILES


def test_reads_streamed_archives():
    assert contents(archive(FILES, file=Pipe(), method=zipfile.ZIP_DEFLATED)) == FILES
    assert contents(archive(FILES, file=Pipe())) == FILES


def test_reads_64_bit_end_records(monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = archive(FILES, wide=True)
    assert b"PK\x06\x06" in data
    assert b"PK\x06\x07" in data
    assert contents(data) == FILES
    end = data.rindex(b"PK\x05\x06")
    assert data[end + 8 : end + 12] == b"\x03\0\3\0"  # narrow fields that agree are as good as full ones
    wide_only = data[: end + 8] + b"\xff" * 12 + data[end + 20 :]
    assert contents(wide_only) == FILES
    for at, field in ((8, "here"), (10, "count"), (12, "size"), (16, "start")):
        lying = bytearray(wide_only)
        lying[end + at : end + at + 2] = b"\x04\0"
        with pytest.raises(FormatError, match="end record"):
            read_members(memoryview(lying))
            pytest.fail(field)


def test_refuses_broken_64_bit_end_records(monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    data = archive({"a": NOISE}, wide=True)
    assert contents(data) == {"a": NOISE}
    locator = b"PK\x06\x07"
    for offset, layout, value, reason in (
        (4, "<L", 1, "parts, expected an archive in one part"),
        (16, "<L", 2, "2 parts, expected an archive in one part"),
        (8, "<Q", 1 << 40, "no 64-bit end record at"),
        (8, "<Q", data.index(locator) - 4, "no 64-bit end record at"),
        (0, "<B", 0, "a directory at"),
    ):
        with pytest.raises(FormatError, match=reason):
            read_members(memoryview(patched(data, locator, offset, layout, value)))
    with pytest.raises(FormatError, match="a 64-bit end record of 45 bytes, expected 44"):
        read_members(memoryview(patched(data, b"PK\x06\x06", 4, "<Q", 45)))
    # The signature alone, where the record would reach past the archive's end.
    tail = struct.pack("<4sLQL", locator, 0, 0, 1) + END + b"\xff" * 16 + b"\0\0"
    with pytest.raises(FormatError, match="no 64-bit end record at 0"):
        read_members(memoryview(b"PK\x06\x06" + tail))


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (b"", "no 64-bit field"),
        (b"\1", "no 64-bit field"),
        (struct.pack("<2HQ", 9, 8, 500), "no 64-bit field"),
        (struct.pack("<2HL", 1, 4, 500), "a short 64-bit field"),
        (struct.pack("<2H", 1, 8), "a short 64-bit field"),
        (struct.pack("<2HQ", 1, 8, 499), "stored in 500 bytes, expected 499"),
        (struct.pack("<2HQ", 1, 8, 500), None),
        (struct.pack("<2HL2HQ", 9, 4, 0, 1, 8, 500), None),
    ],
)
def test_64_bit_fields_of_members(extra, reason):
    data = patched(archive({"a": NOISE}), ENTRY, 24, "<L", 0xFFFFFFFF)
    data = patched(data, ENTRY, 30, "<H", len(extra))
    data = patched(data, END, 12, "<L", 47 + len(extra))
    data = data.replace(END, extra + END)
    if reason is None:
        assert contents(data) == {"a": NOISE}
        return
    with pytest.raises(FormatError, match=reason):
        read_members(memoryview(data))


def test_data_may_not_reach_into_the_directory():
    data = archive({"a": NOISE})
    for more in (1, 1 << 30):
        longer = patched(patched(data, ENTRY, 20, "<L", 500 + more), ENTRY, 24, "<L", 500 + more)
        with pytest.raises(FormatError, match="reaching into the directory"):
            read_members(memoryview(longer))


def test_reads_an_archive_of_nothing():
    assert contents(archive({})) == {}
    assert contents(archive({}, comment=b"c")) == {}


def test_old_names_are_cp437():
    data = archive({"e": b"1"}).replace(b"\x01\x00\x00\x00e", b"\x01\x00\x00\x00\x82")
    data = data.replace(b"e1PK", b"\x821PK").replace(b"\0\0\0\0e", b"\0\0\0\0\x82")
    with zipfile.ZipFile(io.BytesIO(data)) as reference:
        assert list(contents(data)) == reference.namelist() == ["\u00e9"]


def test_stored_members_are_ranges_of_the_archive():
    view = memoryview(archive({"a": NOISE}))
    (member,) = read_members(view)
    where, start, end = member_bytes(view, member, verify=True)
    assert where is view
    assert view[start:end] == NOISE


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.binary(), max_size=5
    ),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    st.binary(max_size=50),
    st.booleans(),
)
def test_any_archive_of_zipfile(files, method, comment, streamed):
    data = archive(files, method=method, comment=comment, file=Pipe() if streamed else None)
    assert contents(data) == files


@given(st.data())
def test_damage_is_an_error_or_harmless(data):
    """Runs of bytes overwritten, cut out, or put in: nothing but FormatError, and no other contents."""
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    good = archive(FILES, method=method)
    at = data.draw(st.integers(0, len(good)))
    gone = data.draw(st.integers(0, 30))
    bad = good[:at] + data.draw(st.binary(max_size=30)) + good[at + gone :]
    try:
        found = contents(bad)
    except FormatError:
        return
    assert found == FILES


@pytest.mark.parametrize(
    ("signature", "offset", "layout", "value", "reason"),
    [
        (ENTRY, 8, "<H", 0x0001, "'a' is encrypted"),
        (ENTRY, 8, "<H", 0x0041, "'a' is encrypted"),
        (ENTRY, 8, "<H", 0x0020, "with flags 0x0020"),
        (ENTRY, 8, "<H", 0x0008, "local header that differs"),
        (ENTRY, 10, "<H", 8, "local header that differs"),
        (ENTRY, 10, "<H", 99, "compression 99"),
        (ENTRY, 16, "<L", 1, "CRC-32 .*, expected 00000001"),
        (ENTRY, 20, "<L", 499, "stored in 499 bytes"),
        (ENTRY, 24, "<L", 0xFFFFFFFF, "no 64-bit field"),
        (ENTRY, 28, "<H", 2, "directory"),
        (ENTRY, 32, "<H", 9, "directory entry that ends within"),
        (ENTRY, 34, "<H", 1, "in part 1"),
        (ENTRY, 42, "<L", 1, "the local header of member"),
        (ENTRY, 42, "<L", 1 << 30, "at byte 1073741824, expected one before"),
        (ENTRY, 46, "<B", ord("b"), "local header that differs"),
        (LOCAL, 0, "<B", 0, "the local header of member"),
        (LOCAL, 8, "<H", 8, "local header that differs"),
        (LOCAL, 26, "<H", 2, "local header that differs"),
        (LOCAL, 28, "<H", 1, "reaching into the directory"),
        (END, 4, "<H", 1, "one part of several"),
        (END, 8, "<H", 2, "one part of several"),
        (END, 12, "<L", 46, "expected one that ends at"),
        (END, 16, "<L", 0, "expected one that ends at"),
        (END, 20, "<H", 1, "no end record"),
    ],
)
def test_says_what_is_wrong(signature, offset, layout, value, reason):
    data = archive({"a": NOISE})
    assert contents(data) == {"a": NOISE}
    with pytest.raises(FormatError, match=reason):
        contents(patched(data, signature, offset, layout, value))


@pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
def test_other_compressions_are_refused(method, number):
    with pytest.raises(FormatError, match=f"'a' with compression {number}, expected 0"):
        contents(archive({"a": NOISE}, method=method))


def test_counts_must_agree():
    data = archive({"a": NOISE, "b": NOISE})
    wrong = patched(patched(data, END, 8, "<H", 1), END, 10, "<H", 1)
    with pytest.raises(FormatError, match="2 members, expected 1"):
        read_members(memoryview(wrong))


def test_a_name_stands_once():
    data = archive({"a": b"1", "b": b"2"}).replace(b"b2", b"a2").replace(b"\0bPK", b"\0aPK")
    with pytest.raises(FormatError, match="a second member 'a'"):
        read_members(memoryview(data))


def test_overlapping_members_are_refused():
    """A member inside another's data: the trick of the archives that inflate without end."""
    inner = archive({"b": b"inner"})
    host = archive({"a": inner})
    start = host.index(LOCAL, 4)
    entry = bytearray(inner[inner.index(ENTRY) : inner.rindex(END)])
    struct.pack_into("<L", entry, 42, start)
    directory = host[host.rindex(ENTRY) : host.rindex(END)] + entry
    offset = host.rindex(ENTRY)
    tail = struct.pack("<4s4H2LH", END, 0, 0, 2, 2, len(directory), offset, 0)
    with pytest.raises(FormatError, match="'b' overlaps another"):
        read_members(memoryview(host[:offset] + directory + tail))


def test_a_prefix_or_suffix_is_refused():
    data = archive(FILES)
    for wrong in (b"x" + data, data + b"x", data + data):
        with pytest.raises(FormatError):
            read_members(memoryview(wrong))


def test_flipped_data_is_found_only_by_verifying():
    data = archive({"a": NOISE})
    at = data.index(NOISE)
    flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    with pytest.raises(FormatError, match="CRC-32") as caught:
        contents(flipped)
    assert caught.value.offset == at
    assert contents(flipped, verify=False)["a"][1:] == NOISE[1:]


@pytest.mark.parametrize("declared", [0, 1, (1 << 25) - 1, (1 << 25) + 1, 0xFFFFFFFE])
def test_a_bomb_takes_no_more_memory_than_it_declares(declared):
    """32 MiB of zeros in 32 KB, declared to be something else."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join([squeezer.compress(bytes(1 << 20)) for _ in range(32)]) + squeezer.flush()
    data = archive({"a": b"x"}, method=zipfile.ZIP_DEFLATED)
    start, end = data.index(LOCAL) + 31, data.index(ENTRY)
    data = data[:start] + packed + data[end:]
    data = patched(data, ENTRY, 20, "<L", len(packed))
    data = patched(data, ENTRY, 24, "<L", declared)
    data = patched(data, END, 16, "<L", start + len(packed))
    (member,) = read_members(memoryview(data))
    assert member.size_bytes == declared
    if declared < 1 << 20:
        tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=f"inflates to .*expected {declared} bytes"):
            member_bytes(memoryview(data), member, verify=True)
        if declared < 1 << 20:
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_deflated_data_must_end_where_it_says():
    data = archive({"a": b"x" * 100}, method=zipfile.ZIP_DEFLATED)
    packed = data[data.index(LOCAL) + 31 : data.index(ENTRY)]
    for wrong, reason in (
        (packed[:-1], "no end"),
        (packed + b"\0", "1 bytes after the end"),
        (b"\xff" * 9, "does not inflate"),
    ):
        changed = data[: data.index(LOCAL) + 31] + wrong + data[data.index(ENTRY) :]
        changed = patched(changed, ENTRY, 20, "<L", len(wrong))
        changed = patched(changed, END, 16, "<L", data.index(LOCAL) + 31 + len(wrong))
        with pytest.raises(FormatError, match=reason):
            contents(changed, verify=False)
