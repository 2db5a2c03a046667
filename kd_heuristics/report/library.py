"""The plotting library, packed so that a page carries it."""

import base64
import functools
import gzip
import importlib.util
from pathlib import Path


@functools.cache
def packed() -> str | None:
    """plotly.js as base64 of gzip; None where the package plotly is not installed.

    2 MB instead of 5: the page unpacks it by DecompressionStream, which browsers have
    since 2023; an older one shows the still images.
    """
    spec = importlib.util.find_spec("plotly")
    folders = None if spec is None else spec.submodule_search_locations
    for folder in folders or ():
        file = Path(folder) / "package_data" / "plotly.min.js"
        if file.exists():
            # mtime 0: the same page from the same runs.
            return base64.b64encode(
                gzip.compress(file.read_bytes(), 9, mtime=0)
            ).decode()
    return None
