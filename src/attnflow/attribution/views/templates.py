"""Jinja2 templates of pages and notebook: Python computes plain values, templates write the tags.

Every value passes through `for_page` and is then escaped, because the environment itself does both
(`finalize` and `autoescape`): a template cannot forget either. Only what `render` returned, and
files of this package (`verbatim`), are taken as HTML. Data of scripts are JSON by `tojson`, in
which no text can end its element.

A template may be indented like any HTML. A line break next to a tag or to Jinja's braces is not
part of the page; any other line break is one space.
"""

import re
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from attnflow.attribution.views.sanitize import as_name, for_page
from attnflow.attribution.views.wording import format_number, format_percent

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_BREAK_AT_TAG = re.compile(r"(?<=[>}])\s*\n\s*|\s*\n\s*(?=[<{])")
_BREAK = re.compile(r"\s*\n\s*")


VIEWS = "attnflow.attribution.views"  # the package whose `page_assets` are meant by default


def render(template: str, package: str = VIEWS, /, **values: Any) -> "Markup":
    """Return the HTML of a template of `page_assets`, safe to be a value of another template."""
    return _markup(_environment(package).get_template(template).render(values))


def verbatim(name: str, package: str = VIEWS) -> "Markup":
    """Return a file of `page_assets` as HTML that is to be left as it is: a style or a script."""
    return _markup(asset(name, package))


def _markup(html: str) -> "Markup":
    # Imported here, so that a result is loaded and shown in a terminal without Jinja2.
    from markupsafe import Markup

    return Markup(html)


def asset(name: str, package: str = VIEWS) -> str:
    """Return the text of a file of `page_assets` of a package."""
    return (files(package) / "page_assets" / name).read_text(encoding="utf-8")


def _source(template: str, package: str) -> str:
    """Return a template without the line breaks that only lay out its source."""
    # Not left to `trim_blocks`: heat maps keep white space, so that a line break would be seen.
    return _BREAK.sub(" ", _BREAK_AT_TAG.sub("", asset(template, package).strip()))


@cache
def _environment(package: str) -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def visible(value: Any) -> Any:
        # Printable text, nearly all of it, is told apart a hundred times faster than translated.
        # Markup has been through here before, when its own template was rendered.
        if isinstance(value, str) and not value.isprintable() and not isinstance(value, Markup):
            return for_page(value)
        return value

    environment = Environment(
        loader=FunctionLoader(partial(_source, package=package)),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        auto_reload=False,
    )
    environment.filters |= {
        "as_name": as_name,
        "number": format_number,
        "percent": format_percent,
        "tenths": "{:.1f}".format,
    }
    # NaN is not JSON: an error here is better than a page whose scripts stop.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment
