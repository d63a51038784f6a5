"""The documentation site: `make docs` builds it. Nothing in it asks a network for anything."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import imgtofmri

project = "imgtofmri"
author = "The imgtofmri developers"
release = version = imgtofmri.__version__
copyright = f"{author}. MIT"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "sphinxcontrib.typer",
    "names",
    "rooms",
    "commands",
    "from_package",
]
# Notebooks that were made of tutorials to run them are no pages.
exclude_patterns = ["_build", "_ext", "tutorials/*.ipynb"]
nitpicky = True
# What a fence without a language shows is no Python.
highlight_language = "none"

# -- Pages and notebooks -----------------------------------------------------------------------

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent / "_build" / "notebooks")
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

# -- Names out of docstrings -------------------------------------------------------------------

default_role = "name"
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
# Docstrings say what things are, with shapes and units; signatures say how they are called.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# Examples run as a page shows them, by their own flags alone.
doctest_default_flags = 0

# -- The look ----------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["from_disk.js"]
html_copy_source = html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": project},
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "back_to_top_button": False,
}
html_sidebars = {"index": [], "search": []}
# Help as a terminal shows it, in text: it can be searched, copied, and read at any width.
typer_dark_theme = ""
