"""Names in backquotes in docstrings: a link where the site describes what is meant, else code."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.roles import XRefRole


class _Name(XRefRole):
    """A name of Python, a parameter or other code: which, is known when all is read."""

    def process_link(
        self, env: Any, refnode: Any, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        refnode["imgtofmri-name"] = True
        refnode["py:module"] = env.ref_context.get("py:module")
        refnode["py:class"] = env.ref_context.get("py:class")
        return title, target.removesuffix("()")


def _resolve(app: Sphinx, env: Any, node: addnodes.pending_xref, shown: nodes.Node) -> Any:
    """Look a name up as Python does, then by its ending alone, if one thing ends so."""
    if not node.get("imgtofmri-name"):
        return None
    domain, target = env.get_domain("py"), node["reftarget"]
    homes = (node.get("py:module"), node.get("py:class"))
    found = domain.find_obj(env, *homes, target, "obj", 0)
    ending = f".{target}"
    found = found or [
        (name, entry)
        for name, entry in domain.objects.items()
        if name.endswith(ending) and not entry.aliased
    ]
    if len(found) != 1:
        return shown
    name, entry = found[0]
    place = app.builder.get_relative_uri(node["refdoc"], entry.docname) + f"#{entry.node_id}"
    return nodes.reference("", "", shown, internal=True, refuri=place, reftitle=name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the role ``name``, which pages have as their default role."""
    app.add_role("name", _Name(innernodeclass=nodes.literal, warn_dangling=False))
    app.connect("missing-reference", _resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
