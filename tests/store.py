"""An object store as epath sees one: whole objects by name, and nothing else."""

import fnmatch
import io
import os

from etils.epath import backend, gpath


class Store(backend.Backend):
    """`gs://` paths in memory. No rename, no append, no empty folder.

    An object is there once its file is closed, whole. `objects` has the bytes by name;
    `on_write`, if set, is called with the name before an object is written.
    """

    def __init__(self):
        self.objects, self.on_write = {}, None

    def install(self, monkeypatch):
        monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", self)
        monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
        return self

    def open(self, path, mode):
        name = os.fspath(path)
        if "a" in mode:
            raise NotImplementedError("objects cannot be appended to")
        if "w" in mode:
            return _Text(self, name) if "b" not in mode else _Object(self, name)
        if name not in self.objects:
            raise FileNotFoundError(name)
        raw = io.BytesIO(self.objects[name])
        return raw if "b" in mode else io.TextIOWrapper(raw, "utf-8")

    def put(self, name, content):
        if self.on_write is not None:
            self.on_write(name)
        self.objects[name] = content

    def below(self, path):
        start = os.fspath(path).rstrip("/") + "/"
        return [name for name in self.objects if name.startswith(start)]

    def exists(self, path):
        return os.fspath(path) in self.objects or self.isdir(path)

    def isdir(self, path):
        return bool(self.below(path))

    def listdir(self, path):
        start = len(os.fspath(path).rstrip("/")) + 1
        found = {name[start:].partition("/")[0] for name in self.below(path)}
        if not found:
            raise FileNotFoundError(path)
        return sorted(found)

    def glob(self, path):
        pattern = os.fspath(path)
        depth = pattern.count("/")
        names = {"/".join(name.split("/")[: depth + 1]) for name in self.objects}
        return sorted(fnmatch.filter(names, pattern))

    def makedirs(self, path, *, exist_ok=False, mode=None):
        """A name needs no folder."""

    def mkdir(self, path, *, exist_ok=False, mode=None):
        """A name needs no folder."""

    def rmtree(self, path):
        names = self.below(path)
        if not names:
            raise FileNotFoundError(path)
        for name in names:
            del self.objects[name]

    def remove(self, path):
        if self.objects.pop(os.fspath(path), None) is None:
            raise FileNotFoundError(path)

    def rename(self, path, dst):
        raise NotImplementedError("objects cannot be renamed")

    replace = copy = rename

    def walk(self, top, *, top_down=True, on_error=None):
        raise NotImplementedError

    def stat(self, path):
        raise NotImplementedError


class _Object(io.BytesIO):
    """An object that is being written."""

    def __init__(self, store, name):
        super().__init__()
        self.store, self.name = store, name

    def __exit__(self, kind, error, trace):
        if kind is not None:  # nothing of it is sent
            super().close()
        return super().__exit__(kind, error, trace)

    def close(self):
        if not self.closed:
            self.store.put(self.name, self.getvalue())
        super().close()


class _Text(io.TextIOWrapper):
    def __init__(self, store, name):
        super().__init__(_Object(store, name), "utf-8", write_through=True)
