"""What MkDocs does beside building pages: files of the clone that pages link to go along as text."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# A link out of docs/, as it works on GitHub and in an editor.
OUTSIDE = re.compile(r"(\]\()\.\./([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a copy of each file that a page links to outside of docs/."""
    root = Path(config.docs_dir).parent
    for page in files.documentation_pages():
        for _, path in OUTSIDE.findall(page.content_string):
            if not (root / path).is_file():
                raise PluginError(f"{page.src_uri} links to ../{path}, which is no file.")
            copy = f"clone/{path}.txt"
            if copy not in files.src_uris:
                file = File.generated(config, copy, abs_src_path=str(root / path))
                files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links lead to the copies."""
    return OUTSIDE.sub(r"\1clone/\2.txt", markdown)
