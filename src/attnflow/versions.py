"""Versions of the installed libraries that measurements depend on."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def installed_version(library: str) -> str:
    """Return the version of an installed library, or "not installed"."""
    try:
        # From the metadata: `__version__` would import the library.
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def installed_versions(libraries: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of each library, by name."""
    return {"python": platform.python_version()} | {
        library: installed_version(library) for library in libraries
    }
