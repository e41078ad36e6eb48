"""The folder of a corpus's results: its manifest, and shards that are there whole or not at all.

    manifest.json   the fingerprint: all that changes results
    shards/         a Parquet file for each chunk of the source
    unread.json     parts of the source that could not be read, where there are any

Locally a shard is written next to its place and renamed. Object stores show an object once all of
it was received. Two runs into one local folder exclude each other by a lock; object stores have no
locks, so that two runs there do some of the work twice, with the same results.
"""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from attnflow.corpus.chunks import is_shard
from attnflow.corpus.remote import (
    file_system,
    has_folders,
    is_local,
    protocols,
    told_in_one_line,
)
from attnflow.errors import InputError, StorageError
from attnflow.files import UNFINISHED, check_folder, make_folder, parse_json, write_whole
from attnflow.one_writer import one_writer

MANIFEST, SHARDS, UNREAD = "manifest.json", "shards", "unread.json"


class Store:
    """A folder of results, on this machine or elsewhere.

    Attributes:
        url: Its address as it was given.
        system: Its file system, of fsspec.
        root: Its path there.
    """

    def __init__(self, url: str) -> None:
        """Take an address or a path; nothing is read or made.

        Raises:
            MissingExtraError, StorageError: As `file_system`.
        """
        self.url = str(url)
        # Other processes write here too, so that what is there is asked for each time.
        self.system, root = file_system(self.url, use_listings_cache=False)
        self.root = root.rstrip("/")
        self.is_local = is_local(self.system)
        if self.is_local:
            check_folder(Path(self.root))

    @property
    def is_of_one_process(self) -> bool:
        """True for the file system in memory, which other processes do not see."""
        return "memory" in protocols(self.system)

    def holds(self, address: str) -> bool:
        """Return whether a file of that address is one of the folder."""
        root = self.system.unstrip_protocol(self.root)
        if self.is_local:  # by way of links and .., one folder has several addresses
            _, path = file_system(address)
            root, address = os.path.realpath(self.root), os.path.realpath(path)
        return address.startswith(f"{root.rstrip('/')}/")

    def make(self) -> None:
        """Make the folder where it is missing.

        Raises:
            StorageError: It cannot be made.
        """
        if self.is_local:
            make_folder(Path(self.root) / SHARDS)
            return
        if not has_folders(self.system):  # s3fs would make a bucket that is misspelt
            return
        with told_in_one_line("make the folder", self.url):
            self.system.makedirs(f"{self.root}/{SHARDS}", exist_ok=True)

    @contextmanager
    def writing(self, *, wait: bool) -> Iterator[None]:
        """Exclude other runs, where the file system has locks.

        Raises:
            StorageError: Another run writes here.
        """
        if not self.is_local:
            yield
            return
        with one_writer(Path(self.root), wait=wait):
            yield

    def remove_unfinished(self) -> None:
        """Remove what workers left that were killed while they wrote.

        Raises:
            StorageError: It cannot be removed.
        """
        if self.is_local:
            with told_in_one_line("clear", self.url):
                for path in (Path(self.root) / SHARDS).glob(f"{UNFINISHED}*"):
                    path.unlink(missing_ok=True)

    def shards(self) -> list[str]:
        """Return the names of the shards that are there, sorted.

        Raises:
            StorageError: The folder cannot be read.
        """
        folder = f"{self.root}/{SHARDS}"
        with told_in_one_line("read", folder):
            try:
                found = self.system.ls(folder, detail=False)
            except FileNotFoundError:
                return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        return sorted(name for name in names if is_shard(name))

    def has_shard(self, name: str) -> bool:
        """Return whether a shard is there.

        Raises:
            StorageError: The folder cannot be read.
        """
        path = self.shard_path(name)
        with told_in_one_line("read", path):
            return bool(self.system.exists(path))

    def shard_path(self, name: str) -> str:
        """Return the path of a shard in the file system."""
        return f"{self.root}/{SHARDS}/{name}"

    def read_shard(self, name: str) -> pa.Table | None:
        """Return the table of a shard; None where its file is damaged.

        Raises:
            StorageError: The file cannot be read.
        """
        path = self.shard_path(name)
        with told_in_one_line("read", path):
            content = self.system.cat_file(path)
        try:
            return pq.read_table(io.BytesIO(content), page_checksum_verification=True)
        except (pa.ArrowException, OSError):  # PyArrow's word for pages that it cannot read
            return None

    def rows_of(self, name: str) -> int:
        """Return the number of rows of a shard.

        Raises:
            StorageError: It cannot be read.
        """
        path = self.shard_path(name)
        with told_in_one_line("read", path), self.system.open(path, "rb") as file:
            return int(pq.ParquetFile(file).metadata.num_rows)

    def remove_shard(self, name: str) -> None:
        """Remove a shard.

        Raises:
            StorageError: It cannot be removed.
        """
        self.remove(f"{SHARDS}/{name}")

    def remove(self, name: str) -> None:
        """Remove a file of the folder.

        Raises:
            StorageError: It cannot be removed.
        """
        path = f"{self.root}/{name}"
        with told_in_one_line("remove", path):
            self.system.rm_file(path)

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder, whole or not at all.

        Raises:
            StorageError: It cannot be written.
        """
        path = f"{self.root}/{name}"
        if self.is_local:
            write_whole(Path(path), content, overwrite=True)
            return
        with told_in_one_line("write", path):
            self.system.pipe_file(path, content)

    def read_json(self, name: str) -> Any:
        """Return what a file of the folder holds; None where there is no such file.

        Raises:
            StorageError: It cannot be read, or is not JSON.
        """
        path = f"{self.root}/{name}"
        with told_in_one_line("read", path):
            try:
                content = self.system.cat_file(path)
            except FileNotFoundError:
                return None
        try:
            return parse_json(content.decode("utf-8"))
        except (InputError, UnicodeDecodeError) as error:
            raise StorageError(
                f"{path} is damaged: {error}. Bring it back, or name another folder."
            ) from error

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of JSON.

        Raises:
            StorageError: It cannot be written.
        """
        self.write(name, (json.dumps(value, indent=2) + "\n").encode())
