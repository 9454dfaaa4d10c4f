"""Finding, downloading and listing the models of the reference's zoo."""

import difflib
import os
from pathlib import Path

from deeplab_tf.archives import default_cache, fetch, locked, unpack
from deeplab_tf.weights.zoo_models import ZOO, Result, ZooModel


def find_model(path_or_name: str) -> ZooModel | None:
    """The model that a name means, or the path of a downloaded archive by its file name."""
    file = os.path.basename(path_or_name)
    by_archive = {model.archive: model for model in ZOO.values()}
    return ZOO.get(path_or_name) or by_archive.get(file)


def similar_names(name: str) -> list[str]:
    """Up to three names of the zoo that `name` may be meant for."""
    return difflib.get_close_matches(name, ZOO, n=3, cutoff=0.5)


def download(
    name: str, *, cache_dir: str | os.PathLike[str] | None = None, url: str | None = None
) -> Path:
    """Fetches and unpacks a model, unless an earlier call did.

    Args:
        name: A key of `ZOO`.
        cache_dir: Folder of all models; None for `archives.default_cache()`. An archive that was
            put there under its own file name is taken in place of the download.
        url: Address of a copy of the archive; None for the original.

    Returns:
        Folder of what was in the archive, `<cache_dir>/<name>`.

    Raises:
        ValueError: There is no such model, or the archive is damaged.
        ConnectionError: The archive cannot be downloaded.
    """
    if name not in ZOO:
        names = ", ".join(similar_names(name)) or "those of docs/zoo.md"
        raise ValueError(f"The model zoo has no {name!r}; similar are {names}.")
    folder = Path(cache_dir or default_cache()) / name
    if folder.is_dir():  # it appears with everything in it
        return folder
    with locked(folder):
        if not folder.is_dir():
            _fetch_and_unpack(ZOO[name], folder, url or ZOO[name].url)
    return folder


def _fetch_and_unpack(model: ZooModel, folder: Path, url: str) -> None:
    archive = folder.with_name(model.archive)
    if not archive.exists():
        try:
            fetch(url, archive)
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}. Without a network, download it elsewhere, then give the path of "
                f"{model.archive} in place of {model.name}, or put it into {folder.parent}."
            ) from error
    try:
        unpack(archive, folder)
    except ValueError:
        archive.unlink()  # it would be in the way for ever
        raise
    archive.unlink()


def zoo_table() -> str:
    """The table of docs/zoo.md, in Markdown."""
    lines = ["| name | encoder | data set | published mIoU | archive |", "|---|---|---|---|---|"]
    for model in ZOO.values():
        encoder, scores = model.network.model_variant, "; ".join(map(_score, model.results))
        link = f"[{model.file_size or 'archive'}]({model.url})"
        lines.append(f"| `{model.name}` | {encoder} | {model.dataset} | {scores or '-'} | {link} |")
    return "\n".join(lines) + "\n"


def _score(result: Result) -> str:
    scales = f", {len(result.scales)} scales" if len(result.scales) > 1 else ""
    flip = " and flip" if result.flip else ""
    return f"{result.miou_percent} ({result.split}, OS {result.output_stride}{scales}{flip})"
