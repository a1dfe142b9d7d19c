#include "krul/compress/int8_codec.hpp"
#include "krul/eval/fit_device_costs.hpp"

#include <doctest/doctest.h>

#include "krul/restore/validate.hpp"
#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

using namespace krul;
using namespace krul::eval;
using krul::test::TickingClock;

namespace {

/// A restore of four layers over 100 tokens, 64 of them recomputed; each step of layer l takes l + 1 times a unit.
TimedRestore restore_by_hand() {
  TimedRestore restore{.shape = {100, 0.64, 5}, .sizes = {}, .manifest_bytes = 1000, .report = {}};
  restore.sizes = {.history = 100, .prompt = 5, .block = 16, .layers = {}};
  restore.sizes.layers.assign(4, {std::vector<std::uint64_t>(7, 50), std::vector<std::uint32_t>(7, 0)});
  restore.report.plan = {100, 5, 16, {64, 64, 64, 64}};
  double now = 0;
  const auto add = [&](const char* name, std::optional<std::size_t> layer, double seconds) {
    restore.report.timeline.add({Resource::cores, name, layer, now, now + seconds});
    now += seconds;
  };
  for (std::size_t layer = 0; layer < 4; ++layer) {
    const auto times = static_cast<double>(layer + 1);
    add("project", layer, 1 * times);
    add("decode", layer, 0.5 * times);
    add("decode", layer, 0.5 * times);
    add("attend", layer, 2 * times);
    add("finish", layer, 4 * times);
    restore.report.timeline.add({Resource::link, "read", layer, times - 1, times - 0.5});
  }
  add("logits", std::nullopt, 3);
  restore.report.busy[Resource::cores] = restore.report.first_token_s = now + 2;
  restore.report.busy[Resource::link] = 2;
  restore.report.bytes = 4 * 150;
  restore.report.opening_s = 0.5;
  return restore;
}

}  // namespace

TEST_CASE("a restore's sample is its typical layer, the last one aside") {
  const LayerSample sample = layer_sample(restore_by_hand());
  CHECK(sample.projected_rows == 69);
  CHECK(sample.finished_rows == 69);
  CHECK(sample.decoded_rows == 36);
  CHECK(sample.keys == 105);
  CHECK(sample.pairs == 64 * 65 / 2 + 5 * 100 + 15);
  CHECK(sample.project_s == doctest::Approx(2));  // of 1, 2, 3
  CHECK(sample.decode_s == doctest::Approx(2));
  CHECK(sample.attend_s == doctest::Approx(4));
  CHECK(sample.finish_s == doctest::Approx(8));
  CHECK(outside_layers_s(restore_by_hand()) == doctest::Approx(3 + 2));
}

TEST_CASE("costs from one restore explain its typical layer") {
  const std::vector<std::vector<TimedRestore>> restores = {{restore_by_hand()}};
  const Costs costs = fit_costs(restores);
  const LayerCosts& layer = costs.layer;
  CHECK(layer.decode_row_s == doctest::Approx(2.0 / 36));
  CHECK(layer.call_s + 69 * (layer.project_row_s + layer.finish_row_s) +
            (costs.pass_s - 5) / 4 ==  // what happens once a pass may count as a constant or by row
        doctest::Approx(2 + 8).epsilon(1e-9));
  CHECK(costs.open_s + 1000 * costs.open_s_per_byte == doctest::Approx(0.5));
  CHECK_THROWS_AS(static_cast<void>(fit_costs({})), PreconditionError);
}

TEST_CASE("a link's costs are its requests") {
  const std::vector<std::vector<TimedRestore>> restores = {{restore_by_hand()}};
  const LinkCosts link = fit_link(restores);
  CHECK(link.latency_s + 150 / link.bytes_per_s == doctest::Approx(0.5));
  auto nothing_read = restores;
  nothing_read[0][0].report.bytes = 0;
  CHECK_THROWS_AS(static_cast<void>(fit_link(nothing_read)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(fit_link({})), PreconditionError);
}

TEST_CASE("what a link takes away from the cores is the difference of the same restores") {
  const std::vector<std::vector<TimedRestore>> fast(2, std::vector(3, restore_by_hand()));
  auto slow = fast;
  for (auto& repeats : slow)
    for (std::size_t k = 0; k < repeats.size(); ++k)
      repeats[k].report.busy[Resource::cores] += 300 * static_cast<double>(k + 1);
  CHECK(extra_core_s_per_byte(slow, fast) == doctest::Approx(1));  // 600 bytes; the median of 0.5, 1, 1.5
  CHECK(extra_core_s_per_byte(fast, slow) == 0);
  auto other = slow;
  other.pop_back();
  CHECK_THROWS_AS(static_cast<void>(extra_core_s_per_byte(other, fast)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(extra_core_s_per_byte({}, {})), PreconditionError);
  slow[1].pop_back();
  CHECK_THROWS_AS(static_cast<void>(extra_core_s_per_byte(slow, fast)), PreconditionError);
  slow[1].push_back(slow[1][0]);
  slow[1][2].report.bytes = 0;
  CHECK_THROWS_AS(static_cast<void>(extra_core_s_per_byte(slow, fast)), PreconditionError);
}

TEST_CASE("what opening takes longer over a link is its round trips") {
  const LinkCosts link{.latency_s = 0.25, .bytes_per_s = 2000};  // of 1,000 bytes of a manifest: half a second
  const std::vector<std::vector<TimedRestore>> fast(2, std::vector(3, restore_by_hand()));
  auto slow = fast;
  for (auto& repeats : slow)
    for (std::size_t k = 0; k < repeats.size(); ++k) repeats[k].report.opening_s += 0.75 + static_cast<double>(k);
  CHECK(extra_opening_s(slow, fast, link) == doctest::Approx(1));  // the median of 0, 1, 2
  CHECK(extra_opening_s(fast, slow, link) == 0);
  CHECK_THROWS_AS(static_cast<void>(extra_opening_s({}, {}, link)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(extra_opening_s(slow, std::span(fast).first(1), link)), PreconditionError);
}

TEST_CASE("costs of a device are learnt from whole passes, and those of copies from what was loaded") {
  constexpr std::size_t layers = 4;
  constexpr std::uint64_t row_bytes = 64;
  const double pass_s = 0.5, row_s = 0.02, pair_s = 3e-5, key_s = 1e-4, copy_s = 0.25, byte_s = 1e-6;
  std::vector<std::vector<TimedRestore>> restores;
  for (const RestoreShape& shape : calibration_shapes(4096)) {
    TimedRestore restore{.shape = shape, .sizes = {}, .manifest_bytes = 1000 + shape.history, .report = {}};
    restore.sizes.layers.assign(layers, {});
    const auto front = static_cast<std::size_t>(shape.front * static_cast<double>(shape.history));
    restore.report.plan = {shape.history, shape.prompt, 16, std::vector<std::size_t>(layers, front)};
    restore.report.loaded_rows = layers * (shape.history - front);
    const LayerSample rows = layer_sample(restore);
    restore.report.busy[Resource::device] =
        pass_s + layers * (rows.projected_rows * row_s + rows.pairs * pair_s + rows.keys * key_s);
    if (restore.report.loaded_rows > 0) {
      for (std::size_t read = 0; read < layers * (1 + shape.history / 1024); ++read) {
        restore.report.timeline.add({Resource::link, "read", 0, 0, 1});
        restore.report.busy[Resource::copy] += copy_s;
      }
      restore.report.busy[Resource::copy] += byte_s * static_cast<double>(restore.report.loaded_rows * row_bytes);
    }
    // What the device decodes is no part of what it computes.
    restore.report.timeline.add({Resource::device, "decode", 0, 2, 5});
    restore.report.timeline.add({Resource::cores, "decode", 0, 0, 2});
    restore.report.busy[Resource::device] += 3;
    restore.report.opening_s = 0.5 + 1e-6 * static_cast<double>(restore.manifest_bytes);
    restores.push_back({restore, restore, restore});
  }
  const Costs costs = fit_device_costs(restores, row_bytes);
  CHECK_NOTHROW(expects_valid(costs));
  CHECK((costs.on.compute == Resource::device && costs.on.decode == Resource::cores));
  CHECK(costs.pass_s == doctest::Approx(pass_s));
  CHECK(costs.layer.project_row_s + costs.layer.finish_row_s == doctest::Approx(row_s));
  CHECK(costs.layer.attend_pair_s == doctest::Approx(pair_s));
  CHECK(costs.layer.attend_key_s == doctest::Approx(key_s));
  CHECK(costs.copy.latency_s == doctest::Approx(copy_s));
  CHECK(costs.copy.bytes_per_s == doctest::Approx(1 / byte_s));
  CHECK(costs.copy.row_bytes == row_bytes);
  CHECK(costs.open_s == doctest::Approx(0.5));
  CHECK(fit_copies(std::span(restores).first(1), row_bytes).bytes_per_s == CopyCosts{}.bytes_per_s);  // all recomputed
  CHECK_THROWS_AS(static_cast<void>(fit_device_costs({}, row_bytes)), PreconditionError);
}

TEST_CASE("costs learnt from restores of a whole model are valid, and nothing is left on the way") {
  toy::Backend model{ElementType::f32};
  CostMeter<toy::Backend, TickingClock> meter(model, 128);
  CHECK(meter.longest() == std::min<std::size_t>(128, model.geometry().context / 2));
  MemoryStore store;
  std::vector<std::vector<TimedRestore>> restores, loads;
  for (const RestoreShape& shape : calibration_shapes(meter.longest())) {
    RestoreShape small = shape;
    small.prompt = std::min<std::size_t>(shape.prompt, 8);
    REQUIRE(meter.save(store, small.history, SavePlan::separate(Int8Codec{}), 1));
    auto restore = meter.restore(store, small);
    REQUIRE(restore);
    CHECK(restore->report.matched == small.history);
    CHECK(restore->report.reasons.empty());
    CHECK(restore->manifest_bytes > 0);
    if (restore->report.bytes > 0) loads.push_back({*restore});
    restores.push_back({std::move(*restore)});
  }
  Costs costs = fit_costs(restores);
  costs.link = fit_link(loads);
  CHECK_NOTHROW(expects_valid(costs));
  CHECK_THROWS_AS(static_cast<void>(meter.restore(store, {.history = 3})), PreconditionError);
  const RestoreShape by_device{.history = meter.longest(), .decode = Resource::device};
  CHECK_THROWS_AS(static_cast<void>(meter.restore(store, by_device)), PreconditionError);  // none computes
}
