"""`dawin-ray advise`: what each mode of a job would cost here and gain, by a pilot on few samples.

`picks` chooses the samples, `copied` makes them a small data set, `pilot` runs the job on it, by
its own engine and in a temporary folder, and `watched` looks how long each part takes. From that
`costs` forecasts, `gains` judges and `recommend` chooses; `written` makes the job file of it.
Imports the job and what is below it; only the command imports it.
"""

from dawin_ray.advice.advise import Advised, advise
from dawin_ray.advice.figures import Advice, DatasetAdvice, ModeAdvice
from dawin_ray.advice.saved import check_free, fit_address, write_job
from dawin_ray.advice.words import parts_of

__all__ = [
    "Advice", "Advised", "DatasetAdvice", "ModeAdvice", "advise", "check_free", "fit_address",
    "parts_of", "write_job",
]  # fmt: skip
