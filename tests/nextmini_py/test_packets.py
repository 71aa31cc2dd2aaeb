"""Payload objects: immutable views, sub-views of one memory, builders."""

from __future__ import annotations

import array
import gc
import mmap
import tempfile

import pytest

from nextmini_py import PacketBuilder, PacketView


def address(view: PacketView) -> int:
    numpy = pytest.importorskip("numpy")
    return int(numpy.frombuffer(view, dtype="u1").__array_interface__["data"][0])


def test_a_view_of_bytes_reads_back() -> None:
    view = PacketView(b"hello")
    assert (len(view), view.read(), bytes(view)) == (5, b"hello", b"hello")


def test_the_buffer_protocol_gives_the_memory_itself_and_no_way_to_write() -> None:
    view = PacketView(b"hello")
    memory = memoryview(view)
    assert memory.readonly
    assert memory.tobytes() == b"hello"
    with pytest.raises(TypeError):
        memory[0] = 1


def test_numpy_reads_a_view_without_a_copy() -> None:
    numpy = pytest.importorskip("numpy")
    source = numpy.arange(1000, dtype="f4")
    view = PacketView.from_buffer(source)
    assert address(view) == source.__array_interface__["data"][0]
    assert numpy.array_equal(numpy.frombuffer(view, dtype="f4"), source)


def test_a_view_of_a_writable_buffer_is_a_snapshot() -> None:
    source = bytearray(b"before")
    view = PacketView(source)
    source[:] = b"after!"
    assert bytes(view) == b"before"


def test_from_buffer_shares_the_memory_of_a_writable_buffer() -> None:
    source = bytearray(b"before")
    view = PacketView.from_buffer(source)
    source[:] = b"after!"
    assert bytes(view) == b"after!"
    with pytest.raises(BufferError):
        source.extend(b"x")  # a shared buffer cannot move
    del view
    PacketView.from_buffer(b"")  # any call that touches buffers lets go of those no longer needed
    source.extend(b"x")


def test_a_slice_shares_memory_and_counts_as_slices_do() -> None:
    view = PacketView(b"0123456789")
    assert bytes(view.slice(2, 5)) == b"234"
    assert bytes(view.slice(-3)) == b"789"
    assert bytes(view.slice(8, 100)) == b"89"
    assert bytes(view.slice(5, 2)) == b""
    assert bytes(view.slice(2, 8).slice(1, -1)) == b"3456"
    assert address(view.slice(2, 5)) == address(view) + 2


def test_a_slice_keeps_the_memory_alive() -> None:
    part = PacketView(bytes(range(256)) * 100).slice(256, 512)
    gc.collect()
    assert bytes(part) == bytes(range(256))


def test_any_contiguous_buffer_is_taken_and_others_are_refused() -> None:
    assert bytes(PacketView(array.array("H", [1, 2]))) == b"\1\0\2\0"
    with tempfile.TemporaryFile() as file:
        file.write(b"mapped")
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = PacketView(mapped)
            assert bytes(view) == b"mapped"
            del view
            PacketView(b"")
    with pytest.raises(BufferError):
        PacketView(memoryview(b"abcdef")[::2])
    with pytest.raises(TypeError):
        PacketView("text")  # type: ignore[arg-type]  # the refusal is the test


def test_an_empty_view_is_a_view() -> None:
    view = PacketView(b"")
    assert (len(view), bytes(view), memoryview(view).nbytes) == (0, b"", 0)


def test_a_builder_grows_freezes_and_starts_anew() -> None:
    builder = PacketBuilder(size=4)
    assert builder.write(b"more than ") == 10
    assert builder.write(PacketView(b"four")) == 4
    assert len(builder) == 14
    frozen = builder.freeze()
    assert bytes(frozen) == b"more than four"
    assert len(builder) == 0
    builder.write(bytearray(b"again"))
    assert bytes(builder.freeze()) == b"again"
    assert bytes(frozen) == b"more than four"


def test_an_absurd_size_is_only_a_hint() -> None:
    builder = PacketBuilder(size=2**60)
    builder.write(b"x")
    assert len(builder) == 1
    with pytest.raises(OverflowError):
        PacketBuilder(size=-1)
