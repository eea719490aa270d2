"""What each compared method is, in a sentence for a page that explains itself."""

from __future__ import annotations

from dawin_ray.method import Method

OUTPUTS = {
    "even_output_ensemble": "the mean of the experts' probabilities",
    "dynamic_output_ensemble": "the experts' probabilities, weighed by the sample's coefficients",
    "selection": "for each sample the expert of the largest coefficient alone",
    "own_expert": "on each data set the expert of its task, which a person named",
}

RECIPES = {
    "averaging": "the mean of the experts' weights, merged once",
    "base": "the model that the experts descend from, alone",
}


def meaning_of(method: Method) -> str:
    """One method's, as a phrase."""
    if method.kind == "expert":
        return "this expert alone"
    if method.kind == "output":
        return OUTPUTS[method.name]
    if method.kind == "static":
        return _static(method)
    if method.kind == "fit":
        return "DaWin, with its clusters or its offset fitted otherwise, as the name says"
    measure = method.coefficient
    if measure is None:
        return "a control: each sample has random weights"
    by = "its label" if method.uses_labels else f"{measure.target or measure.metric}"
    return f"each sample has weights of its own, by {by.replace('_', ' ')}"


def _static(method: Method) -> str:
    if method.recipe in RECIPES:
        return RECIPES[method.recipe]
    if method.recipe == "ties":
        return f"TIES: the largest task vectors' values where signs agree, times {method.scale:g}"
    if method.recipe == "task_arithmetic":
        return f"the base plus {method.scale:g} times the sum of the task vectors, merged once"
    if method.weight is not None:
        return f"weights interpolated once for all samples, {method.weight:g} of the last expert's"
    return "all experts' weights in equal parts, merged once for all samples"
