"""What the book asks of Sphinx beyond Jupyter Book: hooks, each with its reason."""

import json
import re
from importlib.resources import files
from pathlib import Path

from sphinx.util.fileutil import copy_asset

MATHJAX = ("es5/tex-mml-chtml.js", "es5/output/chtml/fonts/woff-v2")


def embed_attachments(app, docname, source):
    """Show the pictures that a notebook carries inside; MyST-NB leaves them out."""
    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        for name, data in cell.get("attachments", {}).items():
            for kind, content in data.items():
                text = text.replace(
                    f"attachment:{name}", f"data:{kind};base64,{content}"
                )
        cell["source"] = text
    source[0] = json.dumps(notebook)


def drop_repeated_scripts(app, pagename, templatename, context, doctree):
    """Thebe's script comes twice and throws the second time, even with Thebe off.

    MathJax, 1 MB, comes to every page: only where there are formulas is it wanted.
    """
    formulas = re.search(r'class="[^"]*\bmath\b', context.get("body", ""))
    seen = set() if formulas else {f"_static/{app.config.mathjax_path}"}
    scripts = []
    for script in context.get("script_files", []):
        inline = getattr(script, "attributes", {}).get("body", "")
        name = str(getattr(script, "filename", script) or inline)
        if "thebe" not in name.lower() and name not in seen:
            scripts.append(script)
        seen.add(name)
    context["script_files"] = scripts


def drop_deprecated_roles(app, pagename, templatename, context, doctree):
    """docutils gives the entries of the references a role that ARIA no longer has."""
    if "body" in context:
        context["body"] = context["body"].replace(
            'role="doc-biblioentry"', 'role="listitem"'
        )


def copy_mathjax(app, exception):
    """Formulas without a network: the parts of MathJax that a page loads."""
    if exception is None:
        package = Path(str(files("mathjax"))) / "static" / "mathjax"
        for part in MATHJAX:
            target = Path(app.outdir) / "_static" / "mathjax" / part
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_asset(
                package / part, target if (package / part).is_dir() else target.parent
            )


def skip_tuple_fields(app, what, name, obj, skip, options):
    """Fields of a named tuple: its docstring lists them and says more."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    app.connect("source-read", embed_attachments)
    app.connect("html-page-context", drop_repeated_scripts, priority=900)
    app.connect("html-page-context", drop_deprecated_roles)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
