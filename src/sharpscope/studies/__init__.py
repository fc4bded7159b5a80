"""A study declares a grid of runs, measures of them and claims; this package runs, tabulates and reports it.

No other package but the command line uses data, models, training, measures, sweeps, statistics and reports together.
"""

from sharpscope.studies.file.library import Study, load_studies, load_study, open_study, papers, shipped
from sharpscope.studies.file.schema import ObjectiveConfig, StudyConfig
from sharpscope.studies.looks import record_look, run_until_decided
from sharpscope.studies.plan.expansion import make_plan
from sharpscope.studies.plan.joint import JointPlan, make_joint_plan
from sharpscope.studies.plan.plan import Plan
from sharpscope.studies.results.reporting import write_report, write_reports, write_tables
from sharpscope.studies.results.tables import Tables, collect, collect_all
from sharpscope.studies.run import run_plan, validate_plan

__all__ = [
    "JointPlan",
    "ObjectiveConfig",
    "Plan",
    "Study",
    "StudyConfig",
    "Tables",
    "collect",
    "collect_all",
    "load_studies",
    "load_study",
    "make_joint_plan",
    "make_plan",
    "open_study",
    "papers",
    "record_look",
    "run_plan",
    "run_until_decided",
    "shipped",
    "validate_plan",
    "write_report",
    "write_reports",
    "write_tables",
]
