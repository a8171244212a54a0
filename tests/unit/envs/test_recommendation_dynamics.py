"""Interest evolution and long-term satisfaction: closed forms, published returns, the page's tables, what may not feed back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaas_ray.envs import philox, registry
from rlaas_ray.envs.recommendation import baselines, choice, dynamics, env, forms, metrics, satisfaction
from rlaas_ray.errors import InvalidInput

SESSIONS, BLOCK = 50_000, 5_000


def returns(decide, *, sessions, **config):
    """Returns and steps of sessions of users (77, 0), (77, 1), ... under a rule that sees the state."""
    world, found = env.slates(**config), []
    for first in range(0, sessions, BLOCK):
        count = min(BLOCK, sessions - first)
        streams = philox.streams(77, num_envs=count, first_index=first)
        found.append(baselines.played(decide, world=world, streams=streams)[0])
    return np.concatenate(found)


def anyone():
    rng = np.random.default_rng(0)
    return lambda seen: rng.integers(len(choice.SLATES), size=len(seen.topic))


def most(score):
    return lambda seen: choice.index_of(choice.top(score(seen)))


def test_the_chance_of_no_click_has_its_closed_form():
    for interest, wanted in ((0.0, math.e / (3 + math.e)), (1.0, 0.25)):
        weight = choice.mass(np.full((1, 3), interest), rule="mnl")
        response = choice.choose(weight, rule="mnl", uniform=np.full(1, 0.5))
        assert 1.0 - response.click[0] == pytest.approx(wanted, abs=1e-12)
    assert math.e / (3 + math.e) == pytest.approx(0.475367, abs=1e-6)


def test_the_choice_walks_the_running_sum_with_the_null_last():
    weight = np.tile([[1.0, 2.0, 3.0]], (5, 1))
    uniform = np.asarray([0.0, 1.0, 3.0, 6.0, 7.9]) / 8.0 + 1e-9
    assert choice.choose(weight, rule="proportional", uniform=uniform).slot.tolist() == [0, 1, 2, -1, -1]


def a_state(*, interest, quality, topic=19, budget=200.0):
    """One user who likes everything so much, ten candidates of one topic and quality."""
    return {
        "interests": np.full((1, dynamics.TOPICS), interest),
        "budget": np.full(1, budget),
        "topic": np.full((1, 10), topic),
        "quality": np.full((1, 10), quality),
        "response": np.full(1, -1),
        "t": np.zeros(1, np.uint32),
    }


def clicked_once(state, *, params=None):
    """The step in which the user of the first seed that clicks does click."""
    for seed in range(50):
        stepped = dynamics.step_batch(
            params or dynamics.Params(), state, np.asarray([[0, 1, 2]]), philox.streams(seed, num_envs=1)
        )
        if stepped[-1]["clicked"][0] >= 0:
            return stepped
    raise AssertionError("nobody clicked")


def test_the_budget_after_a_click_on_the_best_document():
    after, _, reward, _, ended, _, info = clicked_once(a_state(interest=1.0, quality=3.0))
    assert after["budget"][0] == pytest.approx(200 - 4 + 0.9 / 3.4 * 4 * 3, abs=1e-12)
    assert after["budget"][0] == pytest.approx(199.176471, abs=1e-6)
    assert reward[0] == info["watch"][0] == 4.0
    assert info["propensity_of_click"][0] == pytest.approx(0.75)
    assert (after["interests"] == 1.0).all()  # who likes everything stays so
    assert not ended


def test_a_last_document_is_watched_as_long_as_there_is_time():
    after, _, reward, _, ended, _, _ = clicked_once(a_state(interest=1.0, quality=-3.0, budget=1.5))
    assert reward[0] == 1.5
    assert after["budget"][0] == pytest.approx(-1.5 * 0.9 / 3.4 * 3)
    assert ended


def test_interest_moves_by_its_value_before_the_step_and_only_where_it_was_clicked():
    before = a_state(interest=0.5, quality=0.0, topic=7)
    after, *_ = clicked_once(before)
    step = 0.3 * (1 - 0.5) * (1 - 0.5)
    assert abs(after["interests"][0, 7] - 0.5) == pytest.approx(step)
    assert (np.delete(after["interests"][0], 7) == 0.5).all()
    low = dynamics.evolve(np.full(2, -0.9), uniform=np.asarray([0.01, 0.99]))
    assert low == pytest.approx([-0.9 + 0.3 * 0.1 * 1.9, -0.9 - 0.3 * 0.1 * 1.9])
    assert (dynamics.evolve(np.linspace(-1, 1, 99), uniform=np.full(99, 0.999)) >= -1.0).all()


def test_topics_have_the_published_means():
    assert dynamics.MEANS[:14] == pytest.approx(np.linspace(-3, 0, 14))
    assert dynamics.MEANS[14:] == pytest.approx(np.linspace(0, 3, 6))
    assert (dynamics.MEANS == 0.0).sum() == 2
    state, _, _ = dynamics.reset_batch(dynamics.Params(), philox.streams(1, num_envs=4000))
    deviation = state["quality"] - dynamics.MEANS[state["topic"]]
    assert deviation.std() == pytest.approx(0.1, abs=0.002)
    assert np.bincount(state["topic"].ravel(), minlength=20) == pytest.approx(2000, abs=200)
    assert (np.abs(state["interests"]) < 1).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "random", "myopic"),
    [("mnl", 159.25, 167.10), ("proportional", 160.48, 167.98)],
    ids=["mnl", "proportional"],
)
def test_random_and_click_greedy_slates_earn_the_published_minutes(rule, random, myopic):
    found = returns(anyone(), sessions=SESSIONS, choice=rule).mean()
    greedy = returns(most(lambda seen: seen.interest), sessions=SESSIONS, choice=rule).mean()
    assert found == pytest.approx(random, abs=0.6)
    assert greedy == pytest.approx(myopic, abs=0.6)
    if rule == "mnl":
        assert found == pytest.approx(159.2, abs=1.2)
        assert greedy == pytest.approx(166.3, abs=1.2)


@pytest.mark.slow
def test_slates_that_heed_quality_go_far_beyond_the_best_published():
    mild = returns(most(lambda seen: np.exp(seen.interest) * (1 + 0.05 * seen.quality)), sessions=BLOCK)
    strong = returns(most(lambda seen: np.exp(seen.interest) * (1 + 0.3 * seen.quality)), sessions=BLOCK)
    best = returns(most(lambda seen: seen.quality), sessions=BLOCK)
    assert mild.mean() == pytest.approx(175.8, abs=1.5)
    assert strong.mean() == pytest.approx(217.8, abs=2.0)
    assert best.mean() == pytest.approx(268.8, abs=2.5)


@pytest.mark.slow
def test_the_reference_reaches_its_minutes_and_stays_below_the_bound():
    values = baselines.values_of("watch")
    found = returns(lambda seen: baselines.best_slate(seen, values=values), sessions=BLOCK)
    assert found.mean() == pytest.approx(276.1, abs=2.5)
    assert found.mean() < 1.8209 * (200 + 3.5)


@pytest.mark.slow
def test_clicks_alone_are_worse_than_chance_in_every_weighted_mode():
    for mode in metrics.MODES:
        random = returns(anyone(), sessions=2000, mode=mode)
        greedy = returns(most(lambda seen: seen.interest), sessions=2000, mode=mode)
        assert greedy.mean() < random.mean() - 1.0, mode


@pytest.mark.slow
def test_rates_of_random_sessions():
    world, told, rng = env.slates(), [], np.random.default_rng(0)
    streams = philox.streams(9, num_envs=500)
    state, _, _ = world.reset(streams)
    on = np.ones(500, bool)
    while on.any():
        state, _, _, _, ended, cut, info = world.step(state, rng.integers(120, size=500), streams=streams)
        told.append(info["objectives"][on])
        on &= ~(ended | cut)
    rates = metrics.rates(np.concatenate(told))
    assert (rates.ctr, rates.cvr, rates.diversity) == pytest.approx((0.551, 0.157, 0.950), abs=0.01)


def walk(world, *, steps=100, count=64, rows=slice(None)):
    """States and what left the domain, under actions that are the same for all worlds of a number."""
    rng = np.random.default_rng(1)
    streams = philox.streams(5, num_envs=count).take(rows)
    state, seen, _ = world.reset(streams)
    kept = []
    for _ in range(steps):
        action = rng.integers(120, size=count)[rows]
        state, seen, reward, cost, _, _, info = world.step(state, action, streams=streams)
        kept.append([seen, reward, cost, *state.values(), *info.values()])
    return kept


def test_conversion_and_diversity_never_feed_back():
    names = ("interests", "budget", "topic", "quality", "response")
    worlds = [
        env.slates(),
        env.slates(conversion=False),
        env.slates(mode="discovery"),
        env.slates(weights={"diversity": 1.0}),
    ]
    streams = philox.streams(5, num_envs=64)
    states = [world.reset(streams)[0] for world in worlds]
    rng, converted = np.random.default_rng(0), np.zeros(4)
    for _ in range(60):
        action = rng.integers(120, size=64)
        steps = [world.step(state, action, streams=streams) for world, state in zip(worlds, states, strict=True)]
        states = [step[0] for step in steps]
        converted += [step[-1]["converted"].sum() for step in steps]
        for step in steps[1:]:
            assert all(np.array_equal(step[0][name], steps[0][0][name]) for name in names)
            assert np.array_equal(step[-1]["watch"], steps[0][-1]["watch"])
    assert converted[0] > 0
    assert converted[1] == 0


def test_a_user_alone_is_bit_for_bit_the_same_as_among_sixty_four():
    for config in ({}, {"choice": "proportional"}, {"observe_interests": False, "mode": "engagement"}):
        many = walk(env.slates(**config))
        for row in (0, 31, 63):
            alone = walk(env.slates(**config), rows=slice(row, row + 1))
            for whole, part in zip(many, alone, strict=True):
                assert all(np.array_equal(a[row : row + 1], b) for a, b in zip(whole, part, strict=True))


@pytest.mark.slow
def test_a_million_random_steps_keep_every_bound():
    world, rng = env.slates(mode="engagement"), np.random.default_rng(0)
    streams = philox.streams(3, num_envs=20_000)
    state, seen, _ = world.reset(streams)
    for _ in range(50):
        before = state["budget"]
        state, seen, reward, cost, ended, _, info = world.step(
            state, rng.integers(120, size=len(before)), streams=streams
        )
        assert np.isfinite(seen).all()
        assert np.isfinite(reward).all()
        assert np.abs(seen).max() <= 1.1
        assert np.abs(state["interests"]).max() <= 1.0
        assert (state["budget"] < before).all()  # time only ever passes
        assert (info["converted"] <= (info["clicked"] >= 0)).all()
        assert ((info["watch"] > 0) == (info["clicked"] >= 0)).all()
        assert ((cost >= 0) & (cost <= 1)).all()
        assert np.array_equal(ended, state["budget"] <= 0)
        going = ~ended
        state, streams = {name: value[going] for name, value in state.items()}, streams.take(going)


def test_what_is_hidden_is_not_seen():
    streams = philox.streams(2, num_envs=8)
    full, no_quality, no_interests = (
        env.slates(**config) for config in ({}, {"observe_quality": False}, {"observe_interests": False})
    )
    seen = full.reset(streams)[1]
    blind = no_quality.reset(streams)[1]
    assert (blind[:, dynamics.QUALITY :] == 0).all()
    assert np.array_equal(blind[:, : dynamics.QUALITY], seen[:, : dynamics.QUALITY])
    state, first, _ = no_interests.reset(streams)
    assert (first[:, : dynamics.TOPICS] == 0).all()
    _, then, _, _, _, _, info = no_interests.step(state, np.zeros(8, int), streams=streams)
    clicks = info["clicked"]
    told = np.where(clicks >= 0, state["topic"][np.arange(8), np.maximum(clicks, 0)], -1)
    assert [row.argmax() if row.any() else -1 for row in then[:, : dynamics.TOPICS]] == told.tolist()


def test_the_candidates_that_are_seen_are_those_that_are_there():
    world = env.slates()
    state, seen, _ = world.reset(philox.streams(4, num_envs=30))
    true, read = baselines.seen_of(state), baselines.seen_in(seen)
    assert np.array_equal(true.topic, read.topic)
    assert read.interest == pytest.approx(true.interest, abs=1e-6)
    assert read.quality == pytest.approx(true.quality, abs=1e-6)
    hidden = baselines.seen_in(env.slates(observe_quality=False).reset(philox.streams(4, num_envs=30))[1])
    assert hidden.quality == pytest.approx(dynamics.MEANS[true.topic])


def test_a_rule_shows_the_same_slates_by_index_and_by_scores():
    seen = env.slates().reset(philox.streams(4, num_envs=30))[1]
    by_index, by_scores = (baselines.card("watch", config={"action": form}) for form in ("index", "scores"))
    for name in ("myopic_pctr", "myopic_conversion", "quality", "slateq_topk"):
        index = by_index[name].distribution(seen)[:, 0].astype(int)
        shown, _ = forms.slate("scores").shown(by_scores[name].distribution(seen))
        assert choice.index_of(shown).tolist() == index.tolist()
    with pytest.raises(InvalidInput, match="action"):
        baselines.quality("positions")


def test_indices_are_the_slates_in_lexicographic_order():
    assert choice.SLATES.shape == (120, 3)
    assert choice.SLATES[0].tolist() == [0, 1, 2]
    assert choice.SLATES[-1].tolist() == [7, 8, 9]
    assert choice.index_of(choice.SLATES[:, ::-1]).tolist() == list(range(120))


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_positions_are_repaired_to_three_documents_and_counted(given):
    made, count = choice.repair(np.asarray([given]))
    assert len(set(made[0].tolist())) == 3
    assert count[0] == 3 - len(set(given))
    assert set(given) <= set(made[0].tolist())
    if count[0]:
        fresh = sorted(set(made[0].tolist()) - set(given))
        assert fresh == [one for one in range(10) if one not in given][: count[0]]


def test_repairs_reach_the_user():
    made = registry.make("rlaas/SlateRecommendation-v1", config={"action": "positions"})
    made.reset(seed=0)
    assert made.step(np.asarray([4, 4, 4]))[4]["repaired"] == 2
    assert made.step(np.asarray([4, 5, 6]))[4]["repaired"] == 0


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=10, max_size=10))
def test_scores_show_the_three_highest_with_ties_to_the_lower_index(scores):
    shown, _ = forms.slate("scores").shown(np.asarray([scores]))
    wanted = sorted(range(10), key=lambda one: (-scores[one], one))[:3]
    assert shown[0].tolist() == wanted


@pytest.mark.parametrize(
    ("form", "action"),
    [
        ("index", [120]),
        ("index", [-1]),
        ("index", [0.5]),
        ("positions", [[0, 1, 10]]),
        ("positions", [[0, 1]]),
        ("scores", [[float("nan")] * 10]),
        ("scores", [[0.0] * 9]),
    ],
)
def test_actions_that_are_none_are_refused(form, action):
    with pytest.raises(InvalidInput, match="SlateRecommendation"):
        env.slates(action=form).check(np.asarray(action))


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"mode": "revenue"}, "revenue_focused"),
        ({"choice": "logit"}, "mnl"),
        ({"action": "score"}, "scores"),
        ({"weights": {"clicks": 1.0}}, "ctr"),
        ({"weights": {"ctr": 0.5}}, "sum to 1"),
        ({"weights": {"ctr": 1.5, "cvr": -0.5}}, "non-negative"),
        ({"observe_quality": "no"}, "observe_quality"),
        ({"dynamics": "interest"}, "interest_evolution"),
        ({"dynamics": "long_term_satisfaction", "preset": "harder"}, "hard"),
        ({"dynamics": "long_term_satisfaction", "sens": -1.0}, "sens"),
        ({"dynamics": "long_term_satisfaction", "action": "positions"}, "index"),
    ],
)
def test_configurations_that_are_none_are_refused_with_what_is_known(config, word):
    with pytest.raises(InvalidInput) as caught:
        env.domain(**config)
    assert word in str(caught.value)


def test_the_users_own_weights_replace_a_modes():
    by_name = env.slates(weights={"ctr": 0.4, "cvr": 0.3, "diversity": 0.3})
    assert by_name.params.weights == env.slates(mode="revenue_focused").params.weights
    assert env.slates().params.weights is None


def test_diversity_is_the_share_of_pairs_that_differ():
    assert metrics.diversity(np.asarray([[1, 1, 1], [1, 1, 2], [1, 2, 3]])) == pytest.approx([0, 2 / 3, 1])


def constant_satisfaction(score, *, sens, users):
    """Mean engagement of 60 steps of documents that all have the same clickbait score."""
    world = satisfaction.Satisfaction(sens=sens)
    streams = philox.streams(6, num_envs=users)
    state, _, _ = world.reset(streams)
    total, ended = np.zeros(users), np.zeros(users, bool)
    while not ended.all():
        state["clickbait"][:] = score
        state, _, reward, _, ended, _, _ = world.step(state, np.zeros(users, int), streams=streams)
        total += reward
    assert (state["t"] == 60).all()
    return total.mean()


LONG_TERM = {
    0.01: (755.3, 843.3, 939.8, 1045.2, 1160.2),
    0.05: (856.7, 901.8, 939.8, 970.2, 992.4),
    0.1: (1001.5, 980.5, 940.0, 884.6, 819.6),
    0.3: (1775.0, 1362.6, 941.7, 620.2, 416.6),
}


@pytest.mark.slow
@pytest.mark.parametrize("sens", sorted(LONG_TERM))
def test_long_term_satisfaction_earns_the_tables_engagement(sens):
    found = [constant_satisfaction(score, sens=sens, users=20_000) for score in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx(LONG_TERM[sens], rel=0.01)
    assert (found == sorted(found)) == (sens <= 0.05)  # clickbait pays until users mind it enough
    assert (found == sorted(found, reverse=True)) == (sens >= 0.1)


def test_exposure_settles_where_it_should():
    exposure = 0.0
    for _ in range(200):
        exposure = satisfaction.KEPT * exposure - 2.0 * (0.8 - 0.5)
    assert exposure == pytest.approx(-2.0 * (0.8 - 0.5) / 0.3)
    world = satisfaction.Satisfaction(preset="hard")
    streams = philox.streams(8, num_envs=2000)
    state, _, _ = world.reset(streams)
    assert np.abs(state["exposure"]).max() <= 0.5 / 0.3
    for _ in range(40):
        state["clickbait"][:] = 0.8
        state, *_ = world.step(state, np.zeros(2000, int), streams=streams)
    assert state["exposure"].mean() == pytest.approx(-2.0, abs=0.01)


def test_satisfaction_is_not_seen_and_the_last_engagement_is_clipped():
    made = registry.make_vector(
        "rlaas/SlateRecommendation-v1", num_envs=50, seed=0, config={"dynamics": "long_term_satisfaction"}
    )
    seen, _ = made.reset()
    assert seen.shape == (50, 11)
    for _ in range(59):
        seen, _, ended, _, info = made.step(np.full(50, 3))
        assert seen[:, 10] == pytest.approx(np.minimum(info["objectives"][:, 0], 100) / 100)
        assert not ended.any()
    assert made.step(np.full(50, 3))[2].all()
