"""How much better each run is, from votes between two: Bradley–Terry strengths with bootstrap intervals."""

from dataclasses import dataclass

import numpy as np

PRIOR_WINS = 0.5
RESAMPLES = 1000
LEVEL = 0.95
TOLERANCE, MOST_STEPS = 1e-10, 100_000


@dataclass(frozen=True)
class Comparisons:
    """V votes on one question between K runs, as arrays (V,).

    one, other: indices of the runs. score: of `one`; 1 won, 0 lost, 0.5 about the same. rater, clip: whose
    vote, and about which clip.
    """

    one: np.ndarray
    other: np.ndarray
    score: np.ndarray
    rater: np.ndarray
    clip: np.ndarray

    def wins(self, runs: int, weight: np.ndarray | None = None) -> np.ndarray:
        """(K, K): how often the row's run beat the column's. A tie is half a win for each.

        weight: (V,) how often each vote counts.
        """
        weight = np.ones(len(self.score)) if weight is None else weight
        won = np.bincount(self.one * runs + self.other, weight * self.score, runs * runs)
        lost = np.bincount(self.other * runs + self.one, weight * (1 - self.score), runs * runs)
        return (won + lost).reshape(runs, runs)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, None where the votes do not vary."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Standing:
    """One run on one question. strength: log odds, mean zero over the runs; see `strengths`."""

    wins: int
    ties: int
    losses: int
    win_rate: Estimate
    strength: Estimate


def strengths(wins: np.ndarray, prior_wins: float = PRIOR_WINS) -> np.ndarray:
    """(..., K) maximum-likelihood Bradley–Terry strengths of (..., K, K) wins.

    Run i beats j with probability 1 / (1 + exp(s_j − s_i)) (Bradley & Terry 1952), found by Hunter's
    minorise-maximise steps (2004, equation 3), which never lower the likelihood:

        p_i ← W_i / Σ_j n_ij / (p_i + p_j),   s = log p, shifted to mean zero.

    prior_wins: added both ways between any two runs, so that a run that always won keeps a finite strength.
    Half a win is what Firth's penalty (1993) comes to for two runs. With 0 it is plain maximum likelihood,
    which does not exist for a run that won or lost every time: ArithmeticError.
    """
    runs = wins.shape[-1]
    wins = wins + prior_wins * (1 - np.eye(runs))
    games = wins + np.swapaxes(wins, -1, -2)  # n_ij
    won = wins.sum(-1)  # W_i
    p = np.ones(won.shape)
    for _ in range(MOST_STEPS):
        with np.errstate(divide="ignore", invalid="ignore"):
            new = won / (games / (p[..., :, None] + p[..., None, :])).sum(-1)
            new /= np.exp(np.log(new).mean(-1, keepdims=True))
        if not np.all(np.isfinite(new) & (new > 0)):
            break
        step = np.abs(np.log(new / p)).max(initial=0)
        p = new
        if step < TOLERANCE:
            return np.log(p)
    raise ArithmeticError("some run won or lost every time, so its strength has no bound: add prior wins")


def standings(votes: Comparisons, runs: int, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Standing]:
    """Wins, win rate and strength of each of K runs, with intervals.

    The win rate counts a tie as half a win. Intervals are percentiles of `resamples` in which raters and
    clips are both drawn anew with replacement, and a vote counts as often as its rater times its clip (the
    pigeonhole bootstrap, Owen 2007): votes of one rater, or about one clip, are not independent. They speak
    of raters and clips like these; with one rater, of that rater alone. A run whose votes are all wins, all
    ties or all losses has nothing that varies, and no interval.
    """
    wins = votes.wins(runs)
    again = np.stack([votes.wins(runs, weight) for weight in resampled_weights(votes, resamples, seed)])
    rates, strength = win_rates(again), strengths(again)
    value, rate = strengths(wins), win_rates(wins)
    return [
        Standing(
            *(counts := _outcomes(votes, run)),
            win_rate=Estimate(float(rate[run]), _interval(rates[:, run], counts)),
            strength=Estimate(float(value[run]), _interval(strength[:, run], counts)),
        )
        for run in range(runs)
    ]


def win_rates(wins: np.ndarray) -> np.ndarray:
    """(..., K) share of its comparisons that each run won, from (..., K, K) wins; NaN for none."""
    games = (wins + np.swapaxes(wins, -1, -2)).sum(-1)
    return np.divide(wins.sum(-1), games, out=np.full(games.shape, np.nan), where=games > 0)


def resampled_weights(votes: Comparisons, resamples: int, seed: int) -> np.ndarray:
    """(resamples, V): how often each vote counts in each resample."""
    rng = np.random.default_rng(seed)

    def drawn(members: np.ndarray) -> np.ndarray:
        _, group = np.unique(members, return_inverse=True)
        count = group.max() + 1
        return rng.multinomial(count, np.full(count, 1 / count), size=resamples)[:, group]

    return drawn(votes.rater) * drawn(votes.clip)


def _outcomes(votes: Comparisons, run: int) -> tuple[int, int, int]:
    """(wins, ties, losses)."""
    scores = np.concatenate([votes.score[votes.one == run], 1 - votes.score[votes.other == run]])
    return int((scores == 1).sum()), int((scores == 0.5).sum()), int((scores == 0).sum())


def _interval(samples: np.ndarray, outcomes: tuple[int, int, int]) -> tuple[float, float] | None:
    if sum(count > 0 for count in outcomes) < 2:
        return None
    low, high = np.nanquantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
