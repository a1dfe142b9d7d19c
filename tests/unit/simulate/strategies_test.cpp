#include "krul/simulate/strategies.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"

#include <doctest/doctest.h>

#include <tuple>

#include "krul/simulate/payoff.hpp"
#include "krul/strategy/catalogue/all.hpp"

using namespace krul;
using namespace krul::simulate;

namespace {

Scene a_scene(const char* model, double rate, std::size_t history = 2048, std::size_t prompt = 128) {
  Hardware hardware;
  REQUIRE(find_hardware("a100-pcie4", hardware));
  hardware.link.bytes_per_s = rate;
  return device_scene(*model_shape(model), hardware, history, prompt);
}

/// A scene where a row takes so long to recompute and so long to load, and nothing else takes time.
Scene bare_scene(double recompute_over_load, std::size_t history) {
  Scene scene = a_scene("llama-7b", 1e9, history, 1);
  const double load_s = static_cast<double>(scene.shape.row_bytes()) / 1e9;
  scene.costs = {.link = {0, 1e9, 0}, .layer = {.finish_row_s = load_s * recompute_over_load}, .pass_s = 0};
  scene.merge_row_s = 0;
  return scene;
}

double time_of(const char* name, const Scene& scene) {
  return simulated_strategy(name)->simulate(scene).predicted.first_token_s;
}

}  // namespace

TEST_CASE("a balanced split of merged rows is 1 / (0.75 (1 - r)) times as fast as a full load") {
  // With k = T_rec / T_load, r = 0.75 / (k + 0.75); the table of ratios and speed-ups, by hand.
  for (const auto& [k, share, speed_up] : {std::tuple{1.13, 0.40, 2.22}, std::tuple{1.5, 0.33, 2.0},
                                           std::tuple{2.2, 0.25, 1.79}, std::tuple{3.0, 0.2, 1.67}}) {
    const double balanced = 0.75 / (k + 0.75);
    CHECK(balanced == doctest::Approx(share).epsilon(0.02));
    CHECK(1 / (0.75 * (1 - balanced)) == doctest::Approx(speed_up).epsilon(0.01));
    // And so it comes out of the planner's own sums: the smallest bound over shares of a long history. Merged rows are
    // 8 bytes longer, and the last layer finishes no history.
    const Scene scene = bare_scene(k, 64 * 400);
    const RestoreSizes sizes = scene_sizes(scene, row_bytes(scene.shape), adjacent_pairs(32));
    double bound_s = 1e9;
    for (int i = 0; i <= 400; ++i)
      bound_s = std::min(bound_s, planned(sizes, scene.costs, UniformSplit(i / 400.0)).predicted.bound_s());
    CHECK(time_of("load-f16", scene) / bound_s == doctest::Approx(speed_up).epsilon(0.02));
  }
}

TEST_CASE("every strategy loads and computes something sensible") {
  for (const char* model : {"llama-7b", "qwen2-72b", "smollm2-135m"})
    for (const std::size_t history : {0, 64, 500, 2048})
      for (const SimulatedStrategy& strategy : simulated_strategies()) {
        CAPTURE(strategy.name);
        CAPTURE(model);
        CAPTURE(history);
        const Scene scene = a_scene(model, 9e9, history);
        const Outcome outcome = strategy.simulate(scene);
        const Prediction& predicted = outcome.predicted;
        CHECK(predicted.first_token_s >= predicted.bound_s() * (1 - 1e-12));
        // The prompt has to be computed whatever happens.
        CHECK(predicted.busy[Resource::cores] >= pass_cores_s(scene, history, scene.prompt) * 0.9);
        CHECK(outcome.recomputed_share >= 0);
        CHECK(outcome.recomputed_share <= 1);
        const auto full = static_cast<double>(history * scene.shape.token_bytes());
        // States of a model with few KV heads are larger than its K and V; elsewhere nothing is.
        if (strategy.name != "hcache") CHECK(outcome.stored_bytes <= full * 1.001);
        CHECK(static_cast<double>(predicted.bytes) <= outcome.stored_bytes * 1.001 + 1);
        if (history == 0) CHECK(predicted.busy[Resource::link] == 0);
        // Pure: the same answer again.
        CHECK(strategy.simulate(scene).predicted.first_token_s == predicted.first_token_s);
      }
}

TEST_CASE("recompute by counting: 2 FLOP a weight and row, 4 H D a pair") {
  const Scene scene = a_scene("llama-7b", 9e9, 2048, 1);
  const double rows = 2049;
  const double expected =
      32 * (rows * 2 * (scene.shape.projection_weights() + scene.shape.finish_weights()) / 171.6e12 +
            rows * (rows + 1) / 2 * 4 * 4096 / 118.56e12);
  // Besides: weights and keys are read once (4 %), and the last layer finishes one row only (-2 %).
  CHECK(time_of("recompute", scene) == doctest::Approx(expected).epsilon(0.05));
  CHECK(simulated_strategy("recompute")->simulate(scene).predicted.busy[Resource::link] == 0);
}

TEST_CASE("relations between strategies") {
  for (const double rate : {1e9, 5e9, 9e9, 26e9, 200e9}) {
    const Scene scene = a_scene("llama-7b", rate);
    CHECK(time_of("partial", scene) <= std::min(time_of("recompute", scene), time_of("load-f16", scene)));
    CHECK(time_of("pyramid-best", scene) <= std::min(time_of("recompute", scene), time_of("load-f16", scene)));
    CHECK(time_of("minicache", scene) <= time_of("load-f16", scene) * 1.05);
    CHECK(time_of("krul-best", scene) ==
          std::min({time_of("krul-2x", scene), time_of("krul-8x", scene), time_of("krul-12x", scene)}));
  }
  // Hidden states are half of K and V where every head has its own.
  const Scene slow = a_scene("llama-7b", 1e8);
  const Outcome states = simulated_strategy("hcache")->simulate(slow);
  CHECK(states.stored_bytes <= static_cast<double>(slow.history * slow.shape.token_bytes()) / 2);
}

TEST_CASE("two pointers meet where both lanes have worked equally long, up to a chunk") {
  const Scene scene = a_scene("llama-7b", 9e9, 16384);
  const Outcome outcome = split_by_tokens(scene, {std::nullopt, 512});
  const double chunk_s = pass_cores_s(scene, 16384, 512);
  const double prompt_s = pass_cores_s(scene, 16384, scene.prompt) + scene.costs.pass_s;
  CHECK(std::abs(outcome.predicted.busy[Resource::cores] - prompt_s - outcome.predicted.busy[Resource::link]) <=
        chunk_s);
  CHECK(outcome.stored_bytes == static_cast<double>(scene.history * scene.shape.token_bytes()));
}

TEST_CASE("a front that is given is one prefill, and only the rest is read") {
  const Scene scene = a_scene("llama-7b", 9e9);
  const Outcome none = split_by_tokens(scene, {.front = 0}), all = split_by_tokens(scene, {.front = 5000});
  const double prompt_s = pass_cores_s(scene, scene.history, scene.prompt) + scene.costs.pass_s;
  const auto bytes = static_cast<double>(scene.history * scene.shape.token_bytes());
  CHECK(none.predicted.busy[Resource::link] == doctest::Approx(bytes / 9e9 + scene.costs.link.latency_s));
  CHECK(none.predicted.first_token_s == doctest::Approx(none.predicted.busy[Resource::link] + prompt_s));
  CHECK(none.recomputed_share == 0);
  CHECK(all.predicted.busy[Resource::link] == 0);
  CHECK(all.predicted.bytes == 0);
  CHECK(all.recomputed_share == 1);
  CHECK_THROWS_AS(static_cast<void>(split_by_tokens(scene, {std::nullopt, 0})), PreconditionError);
}

TEST_CASE("a strategy of the catalogue is simulated by its own plan and policy") {
  const Scene scene = a_scene("llama-7b", 9e9);
  const auto outcome_of = [&](const AnyStrategy& strategy) { return simulate_restore(strategy, scene).value(); };
  CHECK(outcome_of(strategy::recompute()).stored_bytes == 0);
  CHECK(outcome_of(strategy::load(F16Codec{})).predicted.first_token_s ==
        doctest::Approx(two_byte_rows(scene, FullLoad{}).predicted.first_token_s));
  CHECK(outcome_of(strategy::partial()).predicted.first_token_s ==
        doctest::Approx(two_byte_rows(scene, UniformSplit{}).predicted.first_token_s));
  // Chunks as the catalogue's own policy says, and every row stored.
  const Outcome cake = outcome_of(strategy::cake());
  CHECK(cake.predicted.first_token_s == split_by_tokens(scene, {std::nullopt, 128}).predicted.first_token_s);
  CHECK(cake.stored_bytes == static_cast<double>(scene.history * scene.shape.token_bytes()));
  // Int8 rows in the scene's own size.
  CHECK(outcome_of(strategy::load(Int8Codec{})).stored_bytes ==
        doctest::Approx(static_cast<double>(scene.history * scene.shape.token_bytes()) / scene.int8.strength)
            .epsilon(1e-4));
  // A parts list of anybody's.
  using Mine = Composed<DistantPairs, LayerPairCompressor<SlerpMerge, F16Codec>, Pyramid>;
  CHECK(outcome_of(Mine("mine")).stored_bytes < outcome_of(strategy::minicache()).stored_bytes * 1.001);
}

TEST_CASE("what a simulation cannot know is refused by name") {
  const Scene scene = a_scene("llama-7b", 9e9);
  for (const AnyStrategy& strategy : {AnyStrategy(strategy::krul_paper()), AnyStrategy(strategy::krul()),
                                      AnyStrategy(strategy::load(Int4Codec{})), AnyStrategy(strategy::H2o{})}) {
    CAPTURE(strategy.name());
    const auto outcome = simulate_restore(strategy, scene);
    REQUIRE_FALSE(outcome);
    CHECK(outcome.error().code == ErrorCode::unsupported);
  }
}

TEST_CASE("hidden states are read and projected layer by layer") {
  // So slow a link that every layer is kept as its input, half the bytes of K and V.
  const Scene scene = a_scene("llama-7b", 2e9, 2048, 1);
  const Outcome outcome = simulate_restore(strategy::Hcache{}, scene).value();
  CHECK(outcome.stored_bytes <= static_cast<double>(scene.history * scene.shape.token_bytes()) / 2);
  CHECK(outcome.predicted.first_token_s < time_of("load-f16", scene));
  CHECK(outcome.predicted.busy[Resource::link] ==
        doctest::Approx(outcome.stored_bytes / 2e9).epsilon(0.01));  // and a request's latency each 4 MiB
}

TEST_CASE("a measured machine: what was not measured counts as nothing, plans take a hundred blocks at most") {
  MeasuredCosts measured{.costs = {.link = {0, 1e9, 0}, .layer = {.project_row_s = 1e-6, .decode_row_s = 2e-6}}};
  measured.int8_row_s = 3e-6;
  const Scene scene = measured_scene(*model_shape("smollm2-135m"), measured);
  CHECK(scene.merge_row_s == 0);
  CHECK(scene.int8.decode_row_s == 3e-6);
  CHECK(scene.strong.strength == 8);
  CHECK(scene.strong.decode_row_s > 0);
  measured.merged_row_s = 5e-6;
  CHECK(measured_scene(*model_shape("smollm2-135m"), measured).merge_row_s == doctest::Approx(3e-6));
  CHECK(at_length(scene, 6400, 7).block == 64);
  CHECK(at_length(scene, 6401, 7).block == 128);
  CHECK(at_length(scene, 100000, 7).prompt == 7);
}

TEST_CASE("without a pipeline, the prompt waits for both lanes") {
  // Recompute and load take 1 s a row and layer each: half of 100 tokens meets half of them.
  Scene scene = bare_scene(1, 128);
  scene.block = 1;
  const Outcome outcome = unpipelined_split(scene);
  CHECK(outcome.recomputed_share == doctest::Approx(0.5));
  const double row_s = static_cast<double>(scene.shape.row_bytes()) / 1e9;
  CHECK(outcome.predicted.first_token_s == doctest::Approx(32 * (64 + 1) * row_s));
}

TEST_CASE("the map: pure at the ends, mixed where both take equally long") {
  const Scene scene = a_scene("llama-7b", 9e9);
  const CodedRows f16{1, 0};
  const MapCell slow = map_cell(scene, {8, 1e7, f16}), fast = map_cell(scene, {0.125, 55e9, f16});
  CHECK(mechanisms[slow.winner()].name == "recompute");
  CHECK(slow.gain() == 1);
  CHECK(mechanisms[fast.winner()].name == "load");
  CHECK(slow.recompute_over_load < 0.1);
  CHECK(fast.recompute_over_load > 1.5);
  const MapCell middle = map_cell(scene, {1, 6.5e9, f16});
  CHECK(middle.gain() > 1.5);
  CHECK_FALSE(mechanisms[middle.winner()].pure);
  // A combination is never later than what it combines, but for expanding merged rows.
  for (const MapCell& cell : {slow, fast, middle}) {
    CHECK(cell.first_token_s[3] <= cell.first_token_s[cell.best_pure()]);
    CHECK(cell.first_token_s[4] <= cell.first_token_s[cell.best_pure()]);
    CHECK(cell.gain() >= 1);
  }
  CHECK(at_speed(scene, 2).costs.layer.finish_row_s == scene.costs.layer.finish_row_s / 2);
}
