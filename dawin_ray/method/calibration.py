"""From a few labelled samples: a temperature of each expert, and log odds between the experts.

A temperature makes an expert's probabilities those of its labels. The log odds d of a data set are
added to the experts' scores -H, so that of two experts lambda = sigmoid(H_0 - H_1 + d): entropies
say which of two images an expert knows better, and labels say which expert to believe at all. They
are chosen by the right answers of merged models, which are asked at a grid of weights, and exactly
only where both neighbours on the grid disagree. Ours; the paper uses no label.

Shapes: N samples, M experts, C classes, D candidates, G merged models of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # which imports its parts when something of them is first used
import torch

from dawin_ray.method.coefficients import coefficients
from dawin_ray.method.expertise import entropy

TEMPERATURES = (0.05, 20.0)  # beyond them there is none: the labels would have it at 0, or infinite
TOLERANCE = 1e-10  # of an inverse temperature, relative

# Log odds that are tried, in nats; entropies of ten classes differ by 2.3 at most, of a thousand
# by 6.9, and beyond such a difference one expert has nearly all the weight.
CANDIDATES = np.linspace(-6, 6, 49)

# Right answers that a nat of log odds has to bring: few labels alone are no ground to go far.
PENALTY = 0.5

TENTHS = np.linspace(0, 1, 11)  # of the second of two experts' weight: the grid

SWEEPS = 2  # of a search over the log odds of more than two experts
FOLDS = 2  # that are judged by each other there: each costs as many forwards as it has samples

# Coefficients [n, M] of all samples, or of the rows given -> which are right [n].
Right = Callable[[np.ndarray], np.ndarray]
RightOfRows = Callable[[np.ndarray, np.ndarray], np.ndarray]


def temperature_of(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """The temperature T at which softmax(logits / T) has the least log loss.

    `groups` are logits [N, C] and labels int64 [N] of samples that share a number of classes. The
    loss is convex in 1 / T, so that its derivative has one root. None where that is not within
    TEMPERATURES: where every label is the most probable class, the labels say nothing of how sure
    to be.
    """
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if _slope(low, groups) >= 0 or _slope(high, groups) <= 0:
        return None
    return 1 / float(scipy.optimize.brentq(_slope, low, high, args=(groups,), rtol=TOLERANCE))


def _slope(inverse: float, groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Derivative of the summed log loss by the inverse temperature."""
    slope = 0.0
    for logits_NC, labels_N in groups:
        z_NC = np.asarray(logits_NC, dtype=np.float64)
        mean_N = (scipy.special.softmax(inverse * z_NC, axis=1) * z_NC).sum(axis=1)
        slope += float((mean_N - z_NC[np.arange(len(z_NC)), labels_N]).sum())
    return slope


@dataclass(frozen=True, kw_only=True)
class LogOdds:
    """Log odds as labels have them, and what they brought samples that they were not chosen by."""

    values: np.ndarray  # [M]; the first is 0
    better: int  # samples that only the log odds got right, of `count`
    worse: int  # and that only none of them did
    count: int


def choose_log_odds(
    entropies_NM: np.ndarray, right: Right, guess: Right, penalty: float = PENALTY
) -> LogOdds:
    """Log odds d: most right answers of softmax(-H + d), less a penalty for each nat.

    Of two experts all CANDIDATES are tried by `right`, and each sample is judged by what the others
    would have chosen (leave one out). Of more, `guess` (which should cost no forward) finds the log
    odds of one expert after the other, and `right` is asked 2 forwards a sample: whether what a
    FOLD's other half chose gets it right, and whether none does.
    """
    if entropies_NM.shape[1] == 2:
        return _of_two(entropies_NM, right, penalty)
    return _of_more(entropies_NM, right, guess, penalty)


def _of_two(entropies_N2: np.ndarray, right: Right, penalty: float) -> LogOdds:
    tried_D2 = np.stack([np.zeros_like(CANDIDATES), CANDIDATES], axis=1)
    right_ND = np.stack([right(coefficients(d - entropies_N2)) for d in tried_D2], axis=1)
    total_D = right_ND.sum(axis=0)
    without_ND = total_D - right_ND  # right answers of all samples but one
    chosen_N = _best(without_ND, np.abs(CANDIDATES), penalty)
    ours_N = right_ND[np.arange(len(right_ND)), chosen_N]
    plain_N = right_ND[:, np.abs(CANDIDATES).argmin()]
    return _judged(tried_D2[_best(total_D[None], np.abs(CANDIDATES), penalty)[0]], ours_N, plain_N)


def _of_more(entropies_NM: np.ndarray, right: Right, guess: Right, penalty: float) -> LogOdds:
    everything = np.arange(len(entropies_NM))
    chosen_NM = np.zeros_like(entropies_NM)
    for fold in range(FOLDS):
        mine = everything % FOLDS == fold
        chosen_NM[mine] = _searched(entropies_NM, guess, ~mine, penalty)
    ours_N = right(coefficients(chosen_NM - entropies_NM))
    plain_N = right(coefficients(-entropies_NM))
    return _judged(_searched(entropies_NM, guess, everything >= 0, penalty), ours_N, plain_N)


def _searched(
    entropies_NM: np.ndarray, guess: Right, counted_N: np.ndarray, penalty: float
) -> np.ndarray:
    """Log odds [M] by `guess`, one expert after the other, of the samples that are counted."""
    d_M = np.zeros(entropies_NM.shape[1])
    for expert in list(range(len(d_M))) * SWEEPS:
        tried_DM = np.tile(d_M, (len(CANDIDATES), 1))
        tried_DM[:, expert] = CANDIDATES
        total_D = [guess(coefficients(d - entropies_NM))[counted_N].sum() for d in tried_DM]
        d_M = tried_DM[_best(np.array([total_D]), np.abs(tried_DM).sum(axis=1), penalty)[0]]
    shifted_M: np.ndarray = d_M - d_M[0]
    return shifted_M


def _best(total_ND: np.ndarray, nats_D: np.ndarray, penalty: float) -> np.ndarray:
    """Of each row the candidate of most right answers, less the penalty; the nearest of equals."""
    order_D = np.argsort(nats_D, kind="stable")
    best_N: np.ndarray = order_D[(total_ND - penalty * nats_D)[:, order_D].argmax(axis=1)]
    return best_N


def _judged(d_M: np.ndarray, ours_N: np.ndarray, plain_N: np.ndarray) -> LogOdds:
    return LogOdds(
        values=d_M,
        better=int((ours_N & ~plain_N).sum()),
        worse=int((plain_N & ~ours_N).sum()),
        count=len(ours_N),
    )


def tempered(
    logits_NMC: np.ndarray, temperatures: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Entropies in nats [N, M] and probabilities [N, M, C], float64, of softmax(logits / T)."""
    scaled_NMC = torch.from_numpy(logits_NMC) / torch.tensor(temperatures)[:, None]
    return entropy(scaled_NMC).double().numpy(), scaled_NMC.softmax(dim=-1).double().numpy()


def right_between(right_NG: np.ndarray, shares_N2: np.ndarray, exact: RightOfRows) -> np.ndarray:
    """Which samples [N] of two experts are right at their coefficients [N, 2].

    `right_NG` are the answers of the models at TENTHS. A sample that both neighbours of its
    coefficient get right, or both wrong, counts so without another forward; `exact` is asked of the
    others, with their rows and coefficients. (Of 27,734 answers of a study, 6 differed from those
    of a forward each: jobs/studies/reference_rules.py.)
    """
    rows_N, place_N = np.arange(len(shares_N2)), shares_N2[:, 1] * (len(TENTHS) - 1)
    below_N, above_N = np.floor(place_N).astype(int), np.ceil(place_N).astype(int)
    right_N: np.ndarray = right_NG[rows_N, below_N].copy()
    open_n = np.flatnonzero(right_N != right_NG[rows_N, above_N])
    if len(open_n):
        right_N[open_n] = exact(open_n, shares_N2[open_n])
    return right_N


def ensemble_right(
    probabilities_NMC: np.ndarray, labels_N: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Whether the experts' weighted mean probabilities are right: what merged models might say."""

    def right(shares_NM: np.ndarray) -> np.ndarray:
        mean_NC = np.matmul(shares_NM[:, None, :], probabilities_NMC)[:, 0]
        found_N: np.ndarray = mean_NC.argmax(axis=1) == labels_N
        return found_N

    return right
