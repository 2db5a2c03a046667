"""Hashes the modules that determine a function's numbers.

    before = code_identity.modules(evaluate)    # {"kd_heuristics.points.evaluate": ...}
    code_identity.changed(before, code_identity.modules(evaluate))    # []

`modules` follows static imports transitively, starting from the module that defines the
function. A module's hash covers its syntax tree without docstrings, comments and
layout. It excludes modules that only display numbers (plots, report, command line,
progress) and the arguments of calls to them, for instance the words of a claim. A name
imported from a package stands for the module that defines it, so `from kd_heuristics
import points` reaches only the modules behind the attributes in use.

Installed third-party packages are not hashed; the environment.json of a run folder
records their versions. Imports by a computed name and side effects of importing a
package go unnoticed: pass their result (such as a model's function) as an argument.
"""

from kd_heuristics.runs.code_identity.reach import changed, modules

__all__ = ["changed", "modules"]
