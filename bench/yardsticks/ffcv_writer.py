"""FFCV's own DatasetWriter over torchvision's ImageFolder, as its documentation has it: what our converter is for."""

import contextlib
import io
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path


def _serve(connection: Connection, root: str, beton: str, resolution: int, workers: int, indices: list[int]) -> None:
    """Serves conversions in a process of its own: the writer forks, which a process with many threads should not."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter
    from torchvision.datasets import ImageFolder

    # A spawned process would spawn its own workers too: each would import torch and ffcv anew, in the writer's time.
    multiprocessing.set_start_method("fork", force=True)
    connection.send(0)
    while connection.recv():
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            fields = {
                "image": RGBImageField(write_mode="jpg", max_resolution=resolution, jpeg_quality=90),
                "label": IntField(),
            }
            DatasetWriter(beton, fields, num_workers=workers).from_indexed_dataset(ImageFolder(root), indices)
        connection.send(len(indices))


class FfcvWriter:
    """Converts the images ``indices`` of ``root`` as often as it is asked to."""

    def __init__(self, root: Path, beton: Path, resolution: int, workers: int, indices: list[int]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, other = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(other, str(root), str(beton), resolution, workers, indices))
        self._process.start()
        other.close()
        self._connection.recv()  # it has imported all that it needs

    def convert(self) -> int:
        """Converts once and returns how many images were written."""
        self._connection.send(True)
        return int(self._connection.recv())

    def close(self) -> None:
        """Ends the process."""
        self._connection.send(False)
        self._process.join()
