"""The judge: pure, and hard to please."""

import json
from dataclasses import replace

import pytest

from lab.judge import holds, judge, swap
from lab.shapes import Arm, Check, Evidence, Outcome, Setup, Survival, Tally, Trial, Verdict

BAD = Trial(Tally(right=1, wrong=1, first_bad=2))
GOOD = Trial(Tally(right=2))

BREAKS = (Check("bad", ">", 0),)
CLEAN = (Check("bad", "==", 0),)


def arm(name, role, *trials, checks=None, not_run="", driver="psycopg", tls=False):
    checks = (BREAKS if role == "hazard" else CLEAN) if checks is None else checks
    return Arm(name, role, Setup(driver=driver, tls=tls), checks, trials, not_run)


def verdict(*arms):
    return judge(Evidence("a-claim", arms))


HAZARD = arm("prefork", "hazard", BAD, BAD)
CONTROL = arm("one worker", "control", GOOD)
LAZY = arm("lazy", "remedy", GOOD)
GUESS = arm("guess", "remedy", BAD)
UNTRIED = arm("prefork TLS", "hazard", not_run="TLS is missing")
ABSENT = arm("absent", "remedy", not_run="absent is missing")


def test_reproduced():
    """A claim whose hazard, control and remedies all behave is reproduced."""
    assert Verdict("reproduced") == verdict(HAZARD, CONTROL, LAZY)


def test_reproduced_without_remedies():
    """A claim that is about the hazard alone needs no remedy, only a control."""
    assert Verdict("reproduced") == verdict(HAZARD, CONTROL)


def test_refuted_by_the_hazard():
    """A remedy proves nothing where the hazard did not fail."""
    tame = arm("prefork", "hazard", BAD, GOOD)

    assert Verdict("refuted", ("prefork",)) == verdict(tame, CONTROL, LAZY)


def test_refuted_by_the_control():
    """A control that fails too refutes the claim, and is named."""
    assert Verdict("refuted", ("one worker",)) == verdict(HAZARD, arm("one worker", "control", BAD), LAZY)


def test_refuted_by_every_remedy():
    """Remedies of which none holds refute the claim."""
    assert Verdict("refuted", ("guess",)) == verdict(HAZARD, GUESS)


def test_depends():
    """Remedies of which only some hold make the claim depend on those that do not."""
    assert Verdict("depends", ("guess",)) == verdict(HAZARD, LAZY, GUESS)


def test_an_arm_that_was_not_run_is_left_aside():
    """An arm that was not run neither supports nor refutes."""
    assert Verdict("reproduced") == verdict(HAZARD, LAZY, ABSENT)


@pytest.mark.parametrize(
    "arms",
    [
        (),
        (HAZARD,),
        (LAZY, GUESS),
        (HAZARD, HAZARD),
        (HAZARD, ABSENT),
        (HAZARD, CONTROL, ABSENT),
        (UNTRIED, CONTROL, LAZY),
    ],
    ids=[
        "nothing",
        "hazard alone",
        "hazards alone",
        "remedies alone",
        "hazard alone ran",
        "remedy absent",
        "hazard absent",
    ],
)
def test_not_run(arms):
    """Too few arms that ran give no verdict."""
    names = tuple(each.name for each in arms if each.not_run)

    assert Verdict("not run", names) == verdict(*arms)


@pytest.mark.parametrize(("of", "expected"), [("every", False), ("some", True)])
def test_quantifiers(of, expected):
    """A check asks something of every trial, or of at least one."""
    assert expected == holds(arm("prefork", "hazard", GOOD, BAD, checks=(Check("bad", ">", 0, of),)))


@pytest.mark.parametrize(
    ("op", "holding"),
    [("==", {2}), ("!=", {1, 3}), (">=", {2, 3}), ("<=", {1, 2}), (">", {3}), ("<", {1})],
)
def test_operators(op, holding):
    """Each operator compares what the trial recorded with what the check demands."""
    checks = (Check("seconds", op, 2),)

    assert holding == {n for n in (1, 2, 3) if holds(arm("a", "control", Trial(facts={"seconds": n}), checks=checks))}


def test_every_check_must_be_met():
    """An arm holds only if all its checks are met."""
    assert not holds(arm("prefork", "hazard", BAD, checks=(*BREAKS, Check("hung", ">", 0))))


@pytest.mark.parametrize("of", ["every", "some"])
def test_an_arm_without_trials_never_holds(of):
    """What was never tried is not true of every trial."""
    assert not holds(arm("prefork", "hazard", checks=(Check("bad", "==", 0, of),)))


def test_an_arm_without_checks_never_holds():
    """An arm that demands nothing shows nothing."""
    assert not holds(arm("lazy", "remedy", GOOD, checks=()))


def test_a_value_that_is_not_there_meets_no_check():
    """No first bad answer is not an early one."""
    assert not holds(arm("prefork", "hazard", GOOD, checks=(Check("first_bad", "<=", 10),)))


def test_a_name_that_was_not_recorded_is_an_error():
    """A misspelt field is no evidence."""
    with pytest.raises(KeyError, match="the trial recorded no 'bda'"):
        holds(arm("prefork", "hazard", BAD, checks=(Check("bda", ">", 0),)))


def test_survival_is_looked_up_as_the_parent():
    """What became of the parent can be checked like a count."""
    dead = Trial(survival=Survival("dead", "server closed the connection"))

    assert holds(arm("dispose", "hazard", dead, checks=(Check("parent", "==", "dead"),)))


@pytest.mark.parametrize("arms", [(HAZARD, CONTROL), (HAZARD, LAZY), (HAZARD, CONTROL, LAZY)])
def test_swapped_evidence_makes_a_good_claim_fail(arms):
    """A claim tells its hazard from its remedies, or swapping them would go unnoticed."""
    evidence = Evidence("a-claim", arms)

    assert ("reproduced", "refuted") == (judge(evidence).kind, judge(swap(evidence)).kind)


def test_swapped_evidence_leaves_a_bad_claim_as_it_was():
    """A claim that asks nothing of its remedies is found out by the swap."""
    idle = replace(LAZY, checks=(Check("total", ">", 0),))
    evidence = Evidence("a-claim", (HAZARD, idle))

    assert judge(evidence) == judge(swap(evidence)) == Verdict("reproduced")


def test_swap_takes_the_hazard_of_the_same_driver():
    """Each arm gets the trials of its own hazard, where there are several."""
    other = arm("prefork TLS", "hazard", replace(BAD, facts={"tls": True}), tls=True)
    cure = arm("lazy TLS", "remedy", GOOD, tls=True)

    assert other.trials == swap(Evidence("a-claim", (HAZARD, other, cure))).arms[2].trials


def test_swap_needs_a_hazard():
    """Without a hazard that ran there is nothing to swap with."""
    with pytest.raises(ValueError, match="a-claim has no hazard arm that ran"):
        swap(Evidence("a-claim", (CONTROL, replace(HAZARD, trials=(), not_run="missing"))))


def test_evidence_survives_json():
    """What is read from a file is what was written to it."""
    trial = Trial(Tally(1, 0, 1, 0, 2, {"gone": 1}), Survival("dead", "closed"), {"owners": [1, 2], "tls": True})
    arms = (arm("prefork", "hazard", trial, GOOD), ABSENT)
    evidence = Evidence("a-claim", arms, {"Python": "3"}, {"cores": 2}, "2026-11-21", "0123")

    assert evidence == Evidence.from_json(json.loads(json.dumps(evidence.to_json())))


def test_outcomes_are_counted_in_order():
    """A tally knows how many answers were bad, which came first, and what the errors said."""
    outcomes = [Outcome("right"), Outcome("error", "gone"), Outcome("wrong"), Outcome("hung"), Outcome("error", "gone")]
    tally = Tally.of(outcomes)

    assert Tally(1, 1, 2, 1, 2, {"gone": 2}) == tally
    assert (4, 5) == (tally.bad, tally.total)
