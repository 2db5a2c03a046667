"""Which code decides a function's numbers: a hash of each module it reaches.

    before = code_identity.modules(evaluate)    # {"kd_heuristics.points.evaluate": ...}
    code_identity.changed(before, code_identity.modules(evaluate))    # []

`modules` follows the static imports of the module that defines the function, those of
the modules found there, and so on. A module's hash covers its syntax tree without
docstrings, comments and layout. Modules that only show numbers (plots, report, command
line, progress) do not count, and neither do the arguments handed to them: the words of
a claim are such arguments. A name imported from a package counts as the module that
defines it, so `from kd_heuristics import points` reaches what is used of it.

Installed third-party packages are not hashed: a run folder's environment.json has their
versions. Imports by a computed name and effects of importing a package are not seen;
pass what they yield (a model's function) as a further argument.
"""

from kd_heuristics.runs.code_identity.reach import changed, modules

__all__ = ["changed", "modules"]
