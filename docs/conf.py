"""Settings of the documentation site. `make docs` builds it from a copy of this folder: see scripts/make_site.py."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import Any

project = "twofold"
version = release = version_of("twofold")
copyright = "the authors of twofold, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["package.md"]  # the page of a package index
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure", "myst.header"]  # recipes with `…`; pages that begin below level 1

html_theme = "furo"
html_title = "twofold"
html_static_path = ["_static"]
html_css_files = ["tables.css", "site.css"]
html_js_files = ["tables.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
smartquotes = False
html_last_updated_fmt = None
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2c5aa0", "color-brand-content": "#2c5aa0"},
    "dark_css_variables": {"color-brand-primary": "#8ab4f8", "color-brand-content": "#8ab4f8"},
}
copybutton_prompt_text = "$ "

myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "attrs_inline"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "code"  # docstrings are written with single backticks
python_maximum_signature_line_length = 90


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", _plain)


def _plain(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: outside of backticks no sign of theirs is markup."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [re.sub(r"([*|_\\])", r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)
