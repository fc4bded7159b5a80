"""From tables to what people read: one HTML page, figures, and tables to take along.

`build_page` gives the report, `PaperFigure` declares a figure of it in a paper's own axes, `build_index` an index of
several, `save_figures` the charts as SVG and PNG, `save_tables` the tables as CSV and Parquet. The same tables
give the same bytes.
"""

from __future__ import annotations

from sharpscope.report.export import save_tables
from sharpscope.report.figures import save_figures
from sharpscope.report.page import build_index, build_page
from sharpscope.report.paper_figures import PaperFigure

__all__ = ["PaperFigure", "build_index", "build_page", "save_figures", "save_tables"]
