"""Studies: a declared grid of runs and measures, carried out into a store, tabulated, reported.

Only this package composes data, models, training, measures, the sweep engine, statistics and reports.
"""

from sharpscope.studies.file.library import Study, load_studies, load_study, open_study, papers, shipped
from sharpscope.studies.file.schema import ObjectiveConfig, StudyConfig
from sharpscope.studies.plan.plan import Plan, make_plan
from sharpscope.studies.plan.programme import Programme, make_programme
from sharpscope.studies.results.reporting import write_report, write_reports, write_tables
from sharpscope.studies.results.tables import Tables, collect, collect_all
from sharpscope.studies.run import conduct, preflight

__all__ = [
    "ObjectiveConfig",
    "Plan",
    "Programme",
    "Study",
    "StudyConfig",
    "Tables",
    "collect",
    "collect_all",
    "conduct",
    "load_studies",
    "load_study",
    "make_plan",
    "make_programme",
    "open_study",
    "papers",
    "preflight",
    "shipped",
    "write_report",
    "write_reports",
    "write_tables",
]
