"""Views of a result: each reads `AttributionData` and imports nothing above it.

- Terminal: `terminal`, `terminal_image`, with colours from `ansi`.
- Notebook: `notebook`, `text_heatmap`, `image_heatmap`.
- Page: `page` with its sections `decision_section`, `continuation_section`, `continuation_matrix`
  and the flow's picture `flow_links`; templates, styles and scripts are in `page_assets`.
- Figures of matplotlib: `plots`, with names by `figure_text`.
- Shared: `flow_picture` (where nodes and links stand), `layout` (tokens or words, ranked),
  `captions`, `wording` and `verdict` (sentences and numbers), `image_overlay` (patches as pixels),
  `sanitize` (control characters), `templates` (Jinja2).
"""
