"""The user's own priors, by the names of parameters, terms and factors.

A prior of the user's is on the user's own scale. It puts its whole block there: the defaults that
remain in the block keep their numbers, but an intercept's is then stated where every other column
is 0, and an sd or a correlation is that of the columns as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hierpool.bayes.parts.group_term import GroupTermPart
from hierpool.bayes.parts.part import Part
from hierpool.bayes.parts.residual import ResidualPart
from hierpool.bayes.parts.residual_structure import SCALE, ResidualStructurePart
from hierpool.bayes.parts.scalar import ScalarPart
from hierpool.bayes.parts.thresholds import ThresholdsPart
from hierpool.bayes.parts.unpooled import UnpooledPart
from hierpool.bayes.priors.coefficients import CoefficientPriors
from hierpool.bayes.priors.from_pymc_preliz import read
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.priors.prior import Prior
from hierpool.core.design import Design
from hierpool.core.errors import HierpoolWarning, PriorError, listed, nearest
from hierpool.core.schema import Schema

Kind = Literal["sigma", "beta", "unpooled", "sd", "corr", "factor", "family"]
FAR_TAIL_PROBABILITY = (
    5.0  # sds from the mean of a column to 0 beyond which a default stated at 0 is warned of
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for: a kind of parameter, and its positions among the terms.

    Positions of sds are among those of all factors side by side; ``factor`` says whose correlation
    it is, or which factor as a whole.
    """

    kind: Kind
    positions: tuple[int, ...] = ()
    is_term: bool = False
    factor: str = ""


def names_of(priors: ModelPriors) -> dict[str, Target]:
    """Every name that a prior can be given by, in the order of the printed table.

    ``beta``, ``beta[Days]`` or ``Days``; ``coef_boar``, ``coef_boar[time]`` or ``time`` for no
    pooling; ``sd_Subject``, ``sd_Subject[Days]``; ``corr_Subject``; ``Subject`` for either of
    these; ``sigma``. A name that two things share means the first.
    """
    named: list[tuple[str, Target]] = []
    if priors.population.terms:
        named += _term_names("beta", "beta", priors.population.terms)
    if priors.unpooled is not None:
        unpooled = priors.unpooled
        named += _term_names(f"coef_{unpooled.factor}", "unpooled", unpooled.terms)
    factors: list[tuple[str, Target]] = []
    first = 0
    for factor in priors.factors:
        parts = priors.of_factor(factor)
        terms = [t for part in parts for t in _sd_terms(part)]
        sds = _term_names(f"sd_{factor}", "sd", terms, first)
        named += [(name, target) for name, target in sds if name not in terms]
        if any(part.eta is not None for part in parts):
            named.append((f"corr_{factor}", Target("corr", factor=factor)))
        positions = range(first, first + len(terms))
        factors.append((factor, Target("factor", tuple(positions), factor=factor)))
        first += len(terms)
    if priors.sigma is not None:
        named.append(("sigma", Target("sigma")))
    own = priors.residual_structure
    if own is not None and own.scale is not None:
        named.append((SCALE, Target("sigma", factor=SCALE)))
    named += [(name, Target("family", factor=name)) for name in _of_family(priors)]
    named += factors
    return dict(reversed(named))


def _of_family(priors: ModelPriors) -> list[str]:
    """Names of the parameters of the family."""
    own = [p for p in priors.parts if isinstance(p, (ScalarPart, ThresholdsPart))]
    return [name for part in own for name in part.components]


def _sd_terms(part: GroupTermPart) -> list[str]:
    """The term that each standard deviation is called by."""
    return [part.terms[k] for k in np.unique(part.sd_index, return_index=True)[1]]


def _term_names(
    variable: str, kind: Kind, terms: Sequence[str], first: int = 0
) -> list[tuple[str, Target]]:
    positions = tuple(range(first, first + len(terms)))
    each = [Target(kind, (k,), is_term=True) for k in positions]
    return [
        (variable, Target(kind, positions)),
        *((f"{variable}[{t}]", target) for t, target in zip(terms, each, strict=True)),
        *zip(terms, each, strict=True),
    ]


def with_user_priors(priors: ModelPriors, design: Design, given: Mapping[str, Any]) -> ModelPriors:
    """The priors of a design with the user's in place of some of them.

    Parameters
    ----------
    priors
        The default priors of the design.
    design
        Its rows.
    given
        Name -> prior: hierpool's, PreliZ's or PyMC's. A term's own prior goes before one for the
        whole of ``beta`` or ``sd_<factor>``, and that before one for the factor.

    Raises
    ------
    PriorError
        A name that the model has not, a prior of the wrong support, or one that is not proper.
    """
    check_names(given, [priors], design.spec.formula, dropped_names(design.schema))
    chosen = _Chosen.from_user(names_of(priors), given)
    out = priors
    if chosen.terms["beta"]:
        population = _coefficients(out.population, chosen.terms["beta"])
        _check_flat(population, design)
        _warn_of_zero("beta", population, chosen.terms["beta"], design.observations.X)
        out = replace(out, population=population)
    return replace(out, parts=_parts(out, chosen, design))


def dropped_names(schema: Schema) -> frozenset[str]:
    """Names that parameters would have if their columns had not been dropped."""
    found = {name for t in schema.dropped for name in (t, f"beta[{t}]")}
    for group in schema.groups:
        variable = f"{'sd' if group.is_pooled else 'coef'}_{group.factor}"
        found.update(name for t in group.dropped for name in (t, f"{variable}[{t}]"))
    return frozenset(found)


def check_names(
    given: Mapping[str, Any],
    known: Iterable[ModelPriors],
    formula: str,
    dropped: Collection[str] = (),
) -> None:
    """Raise where a name is in none of the models; ``dropped``: names of columns that are gone."""
    if not isinstance(given, Mapping):
        raise PriorError(
            "priors= takes a dict by name: priors={'sigma': hp.Prior('HalfNormal', sigma=10)}",
            "priors-by-name",
        )
    names = list(dict.fromkeys(name for priors in known for name in reversed(names_of(priors))))
    for name in given:
        if name in names:
            continue
        if name in dropped:
            raise PriorError(
                f"{name!r} is not estimable in {formula}: its column was dropped, because it "
                "cannot be separated from the others in these data. Leave its prior out, or "
                "leave the term it is confounded with out of the formula; see model.notices",
                "not-estimable",
            )
        hint, choices = nearest(name, names), listed(names, most=len(names))
        near = f"{hint} " if hint.startswith("did") else ""
        raise PriorError(
            f"{formula} has no parameter {name!r}: {near}Its parameters are {choices}.",
            "unknown-parameter",
        )


@dataclass(frozen=True)
class _Chosen:
    """The user's priors: of sigma and the correlations, and by kind and position of the others."""

    scalars: Mapping[str, Prior]
    terms: Mapping[Kind, Mapping[int, Prior]]

    @classmethod
    def from_user(cls, names: Mapping[str, Target], given: Mapping[str, Any]) -> _Chosen:
        scalars: dict[str, Prior] = {}
        terms: dict[Kind, dict[int, Prior]] = {"beta": {}, "unpooled": {}, "sd": {}}
        by: dict[tuple[Kind, int], str] = {}
        for name in sorted(given, key=lambda n: _rank(names[n])):
            target = names[name]
            for prior in _read(given[name], name, target):
                kind = _checked(prior, name, target)
                if kind in {"corr", "sigma", "family"}:
                    named = {"corr": f"corr_{target.factor}", "family": target.factor}
                    named["sigma"] = target.factor or "sigma"
                    scalars[named.get(kind, kind)] = prior
                    continue
                _check_joint(prior, name, target, terms[kind])
                for position in target.positions:
                    other = by.get((kind, position), "")
                    if target.is_term and other and names[other].is_term:
                        raise PriorError(
                            f"{other!r} and {name!r} are the same parameter, and both have a "
                            "prior: keep one.",
                            "prior-given-twice",
                        )
                    terms[kind][position] = prior
                    by[kind, position] = name
        return cls(scalars, terms)


def _rank(target: Target) -> int:
    return 0 if target.kind == "factor" else 2 if target.is_term else 1


def _read(value: Any, name: str, target: Target) -> tuple[Prior, ...]:
    priors = read(value, name)
    if len(priors) > 1 and target.kind != "factor":
        raise PriorError(
            "LKJCholeskyCov is a joint prior of standard deviations and correlations, and "
            f"{name!r} is only one of them: give it under the name of the factor.",
            "prior-of-two",
        )
    return priors


def _checked(prior: Prior, name: str, target: Target) -> Kind:
    """What a prior is for, after a check that it can be."""
    kind = target.kind
    if prior.family == "Decov" and kind != "factor":
        raise PriorError(
            f"the prior of {name!r} is {prior}, a joint prior of all standard deviations and "
            "correlations of a factor: give it under the name of the factor.",
            "support-of-prior",
        )
    if prior.family == "Decov":
        return "sd"
    if kind == "family":
        _check_of_family(prior, name)
        return kind
    if prior.family in {"Dirichlet", "Beta"} or prior.of == "1/sqrt":
        raise PriorError(
            f"the prior of {name!r} is {prior}, which is for parameters of a family: shape, "
            "precision, thresholds, zero_inflation and hurdle.",
            "support-of-prior",
        )
    if kind == "factor":
        kind = "corr" if prior.family == "LKJ" else "sd"
    if (kind == "corr") != (prior.family == "LKJ"):
        what = "a correlation takes LKJ(eta)" if kind == "corr" else "LKJ is for correlations"
        raise PriorError(f"the prior of {name!r} is {prior}: {what}.", "support-of-prior")
    if kind not in {"sigma", "sd"} and prior.of != "sd":
        raise PriorError(
            f"the prior of {name!r} is {prior}, and {name} is not a standard deviation: leave out "
            f"of={prior.of!r}.",
            "support-of-prior",
        )
    if kind in {"sigma", "sd"} and prior.family == "Flat":
        raise PriorError(
            f"the prior of {name!r} is flat, so the posterior may be improper: give it a "
            "distribution, e.g. hp.Prior('HalfStudentT', nu=4, sigma=...).",
            "improper-prior",
        )
    if kind in {"sigma", "sd"} and not prior.is_positive:
        raise PriorError(
            f"the prior of {name!r} is {prior}, which allows negative values; {name} is a standard "
            "deviation. Use HalfNormal, HalfStudentT, Exponential, Gamma, InverseGamma, LogNormal, "
            "HalfCauchy or a Uniform from 0.",
            "support-of-prior",
        )
    if kind == "unpooled" and prior.family == "Flat":
        raise PriorError(
            f"the prior of {name!r} is flat, so a group whose rows do not identify its "
            "coefficients would have an improper posterior. Use hp.Prior('Normal', mu=..., "
            "sigma=...) with a large sigma.",
            "improper-prior",
        )
    return kind


def _check_of_family(prior: Prior, name: str) -> None:
    """Raise unless the prior's support is that of a parameter of a family."""
    is_share = name in {"zero_inflation", "hurdle"}
    if name == "thresholds":
        fits, right = prior.family == "Dirichlet", "hp.Prior('Dirichlet', a=2)"
    elif is_share:
        inside = prior.family == "Uniform" and prior.parameters["upper"] <= 1 and prior.is_positive
        fits, right = prior.family == "Beta" or inside, "hp.Prior('Beta', alpha=1, beta=3)"
    else:
        fits = prior.is_positive and prior.family != "Beta"
        right = "hp.Prior('Gamma', alpha=2, beta=0.1)"
    if not fits:
        raise PriorError(
            f"the prior of {name!r} is {prior}, and {name} "
            f"{'is a probability' if is_share else 'has another support'}: write e.g. {right}.",
            "support-of-prior",
        )


def _check_joint(prior: Prior, name: str, target: Target, others: Mapping[int, Prior]) -> None:
    joint = [p for p in others.values() if p.family == "MvNormal"]
    if target.is_term and joint:
        raise PriorError(
            f"{name!r} has a prior of its own, and beta has a joint prior: keep one.",
            "prior-given-twice",
        )
    if prior.family != "MvNormal":
        return
    size, p = len(prior.parameters["mu"]), len(target.positions)
    if target.kind != "beta" or target.is_term:
        raise PriorError(
            f"the prior of {name!r} is a joint prior, which only 'beta' can have.",
            "support-of-prior",
        )
    if size != p:
        raise PriorError(f"MvNormal has size {size}, and beta has {p} terms.", "prior-parameters")


def _coefficients(block: CoefficientPriors, chosen: Mapping[int, Prior]) -> CoefficientPriors:
    priors = tuple(chosen.get(k, prior) for k, prior in enumerate(block.priors))
    # Beside thresholds columns are centred without a constant, which moves the thresholds alone.
    coding = block.coding.uncentred() if block.coding.has_constant else block.coding
    return CoefficientPriors(coding, block.terms, priors)


def _parts(priors: ModelPriors, chosen: _Chosen, design: Design) -> tuple[Part, ...]:
    """The parts of theta with the user's priors in place of some."""
    out: list[Part] = []
    first = 0
    for part in priors.parts:
        if isinstance(part, ResidualPart) and "sigma" in chosen.scalars:
            part = replace(part, prior=chosen.scalars["sigma"])
        elif isinstance(part, ResidualStructurePart) and SCALE in chosen.scalars:
            part = replace(part, scale=chosen.scalars[SCALE])
        elif isinstance(part, (ScalarPart, ThresholdsPart)):
            (name,) = part.components
            part = replace(part, prior=chosen.scalars.get(name, part.prior))
        elif isinstance(part, UnpooledPart) and chosen.terms["unpooled"]:
            part = replace(
                part, coefficients=_coefficients(part.coefficients, chosen.terms["unpooled"])
            )
            variable, Z = f"coef_{part.factor}", design.groups[0].Z
            _warn_of_zero(variable, part.coefficients, chosen.terms["unpooled"], Z)
        elif isinstance(part, GroupTermPart):
            stop = first + len(part.sd)
            own = {k - first: p for k, p in chosen.terms["sd"].items() if first <= k < stop}
            part, first = _group_term(part, own, chosen, design), stop
        out.append(part)
    _check_decov([p for p in out if isinstance(p, GroupTermPart)], priors.sigma is not None)
    return tuple(out)


def _group_term(
    part: GroupTermPart, own: Mapping[int, Prior], chosen: _Chosen, design: Design
) -> GroupTermPart:
    corr = chosen.scalars.get(f"corr_{part.factor}") if part.eta is not None else None
    if not own and corr is None:
        return part
    sd = tuple(own.get(k, prior) for k, prior in enumerate(part.sd))
    eta = part.eta if corr is None else float(corr.parameters["eta"])
    if corr is None and eta is not None and sd[0].family == "Decov":
        eta = float(sd[0].parameters["regularization"])
    made = replace(part, coding=part.coding.uncentred(), sd=sd, eta=eta)
    if part.coding.is_centred:
        columns = design.group(part.factor).Z[:, part.columns]
        _warn_of_zero(f"sd_{part.factor}", made, own, columns)
    return made


def _check_decov(parts: Sequence[GroupTermPart], has_sigma: bool) -> None:
    for factor in dict.fromkeys(part.factor for part in parts):
        each = [p for part in parts if part.factor == factor for p in part.sd]
        joint = [p for p in each if p.family == "Decov"]
        if joint and len(set(each)) > 1:
            raise PriorError(
                f"an sd of {factor!r} has a prior of its own, and {joint[0]} is a prior of all of "
                "them: keep one.",
                "prior-given-twice",
            )
        if joint and not has_sigma:
            raise PriorError(
                f"the prior of {factor!r} is {joint[0]}, in units of sigma, and this model has no "
                "sigma: give its standard deviations priors in the units of the response.",
                "support-of-prior",
            )


def _check_flat(block: CoefficientPriors, design: Design) -> None:
    flat = [k for k, prior in enumerate(block.priors) if prior.family == "Flat"]
    if not flat:
        return
    X = design.observations.X[:, flat]
    scale = np.abs(X).max(axis=0)
    if (scale == 0).any() or np.linalg.matrix_rank(X / scale) < len(flat):
        names = listed(block.terms[k] for k in flat)
        raise PriorError(
            f"the priors of {names} are flat, and the {design.n} rows do not identify these "
            f"{len(flat)} coefficients, so the posterior would be improper. Give them normal "
            "priors.",
            "improper-prior",
        )


def _warn_of_zero(
    variable: str,
    block: CoefficientPriors | GroupTermPart,
    chosen: Mapping[int, Prior],
    columns: np.ndarray,
) -> None:
    """Say it where the default of an intercept has come to hold far outside of the data."""
    constant = block.coding.constant != 0
    kept = [k for k in np.flatnonzero(constant) if k not in chosen]
    if not kept:
        return
    away = np.where(constant, 0.0, np.abs(columns.mean(axis=0)) / block.coding.scales)
    worst = int(np.argmax(away))
    if away[worst] > FAR_TAIL_PROBABILITY:
        intercept, term = block.terms[kept[0]], block.terms[worst]
        warnings.warn(
            f"{variable}[{intercept}] keeps its default prior, which now applies where {term} is "
            f"0, {away[worst]:.0f} sds from the mean of {term}. It therefore also restricts the "
            f"slope. Give {variable}[{intercept}] a prior as well, or centre {term}.",
            HierpoolWarning,
            stacklevel=5,
        )
