"""One call that examines a model: its curvature, its sharpness at several radii, a picture of the loss, in words.

`examine` measures, `Examination` holds what was found, with `to_frame`, `to_html` and a summary in sentences.
"""

from sharpscope.examination.examination import Examination, examine
from sharpscope.examination.plan import PARTS, ExaminationPlan, make_plan

__all__ = ["PARTS", "Examination", "ExaminationPlan", "examine", "make_plan"]
