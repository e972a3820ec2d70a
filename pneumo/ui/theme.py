"""How the page looks: theme, style sheet, and the few lines of script that need no server."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS = [Path(__file__).with_name(name) for name in ("page.css", "teach.css")]
"""Style sheets of the page."""

HEAD = """
<style>
  /* Here and not in page.css, whose rules Gradio confines to what lies inside this frame. */
  .dark { --color-accent: #2dd4bf !important; }
  @media (max-width: 640px) { .gradio-container > .main.fillable { padding: .75rem .5rem !important; } }
</style>
<script>
document.addEventListener("paste", (event) => {
  const file = event.clipboardData && event.clipboardData.files[0];
  const input = document.querySelector("#upload input[type=file]");
  if (!file || !input) return;
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  event.preventDefault();
});
</script>
"""
"""A brighter accent in the dark, a narrower frame on phones, and a script to paste an image anywhere on the page."""


def theme() -> gr.themes.Base:
    """A calm clinical theme that loads no font from another host."""
    fonts = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=fonts,
        font_mono=("ui-monospace", "Consolas", "monospace"),
    ).set(
        # Gradio's subdued text and its accent are too faint to read (WCAG asks for a contrast of 4.5).
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        color_accent="*primary_700",
    )
