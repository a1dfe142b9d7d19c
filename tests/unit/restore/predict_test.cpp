#include "krul/restore/predict.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "krul/reference/plan.hpp"
#include "support/restore_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

/// Sums of n terms in another order differ by at most n roundings of the largest partial sum.
bool equal_sums(double a, double b, std::size_t terms) {
  return std::abs(a - b) <= static_cast<double>(terms) * 0x1p-53 * std::max(a, b);
}

/// As a profile would: each `size` neighbours have their chunks in common.
void code_in_groups(RestoreSizes& sizes, std::size_t size) {
  for (std::size_t layer = 0; layer < sizes.layers.size(); ++layer) {
    StoredLayer& stored = sizes.layers[layer];
    stored.most_bytes = largest_group_request;
    stored.group_index = layer % size;
    stored.group_layers = std::min(size, sizes.layers.size() - (layer - stored.group_index));
    if (stored.group_index == 0) continue;
    stored.block_bytes = sizes.layers[layer - 1].block_bytes;
    stored.block_object = sizes.layers[layer - 1].block_object;
    stored.shared_with.assign(sizes.blocks(), static_cast<std::int32_t>(layer - 1));
  }
}

/// Two layers of two tokens, all loaded: 2 s of reads a layer.
RestoreSizes two_loaded_layers() {
  RestoreSizes sizes{.history = 2, .prompt = 1, .block = 1, .layers = {}};
  sizes.layers.assign(2, {{10, 10}, {0, 0}});
  return sizes;
}

Costs device_costs_by_hand(Resource decode) {
  return {.link = {.bytes_per_s = 10},
          .layer = {.project_row_s = 1, .finish_row_s = 4, .decode_row_s = 1},
          .pass_s = 2,
          .copy = {.latency_s = 0.5, .bytes_per_s = 20, .row_bytes = 30},
          .on = {Resource::device, decode}};
}

}  // namespace

TEST_CASE("two layers, by hand") {
  // Blocks of 10 tokens, 20 tokens of history, 2 of prompt; layer 0 recomputes all, layer 1 the first block.
  RestoreSizes sizes{.history = 20, .prompt = 2, .block = 10, .layers = {}};
  sizes.layers = {{{100, 100}, {0, 0}}, {{100, 300}, {0, 1}}};
  const Costs costs{.link = {.latency_s = 1, .bytes_per_s = 100, .core_s_per_byte = 0.01},
                    .layer = {.call_s = 5,
                              .project_row_s = 2,
                              .finish_row_s = 3,
                              .attend_pair_s = 0.5,
                              .attend_key_s = 1,
                              .decode_row_s = 0.25},
                    .pass_s = 7};
  const Prediction p = predict(plan_of(sizes, {20, 10}), sizes, costs);
  // Layer 0: call 5, project 22 rows 44; rows [0, 10) and [20, 22) go on: pairs 55 + 21 + 22, 22 keys, finish 12 rows.
  const double layer0 = 5 + 44 + 0.5 * 98 + 22 + 36;
  // Layer 1: call 5, project 12 rows 24, the cores' 3 s of reading; decode 10 rows; the last row: 22 pairs, finish it.
  const double layer1 = 5 + 24 + 3 + 2.5 + 11 + 22 + 3;
  CHECK(p.bytes == 300);
  CHECK(p.busy[Resource::link] == doctest::Approx(4));  // done long before the cores get there
  CHECK(p.busy[Resource::cores] == doctest::Approx(layer0 + layer1 + 7));
  CHECK(p.first_token_s == doctest::Approx(p.busy[Resource::cores]));
  CHECK(p.bubble_s() == doctest::Approx(0));

  const Prediction loaded = predict(plan_of(sizes, {0, 0}), sizes, costs);
  CHECK(loaded.bytes == 600);
  CHECK(loaded.busy[Resource::link] == doctest::Approx(3 * 1 + 6));  // layer 0 in one request, layer 1 in two
}

TEST_CASE("rows that a profile coded cost what decoding takes") {
  RestoreSizes sizes{.history = 20, .prompt = 1, .block = 10, .layers = {}};
  sizes.layers = {{.block_bytes = {1, 1}, .block_object = {0, 0}, .joint_share = 0.5}};
  Costs costs;
  costs.layer.decode_row_s = 1;
  costs.layer.joint_row_s = 3;
  CHECK(predict(plan_of(sizes, {0}), sizes, costs).busy[Resource::cores] == doctest::Approx(10 * 1 + 10 * 3));
}

TEST_CASE("the cores wait for a slow link, layer by layer") {
  RestoreSizes sizes{.history = 1, .prompt = 1, .block = 1, .layers = {}};
  sizes.layers.assign(3, {{100}, {0}});
  Costs costs;
  costs.link.bytes_per_s = 10;
  costs.layer.finish_row_s = 4;
  const Prediction p = predict(plan_of(sizes, {0, 0, 0}), sizes, costs);
  CHECK(p.busy[Resource::link] == doctest::Approx(30));
  CHECK(p.first_token_s == doctest::Approx(34));  // the last layer's row is finished when its read ends
}

struct CodedTogether {
  RestoreSizes sizes;
  Costs costs;
  [[nodiscard]] double first_token_s() const { return predict(plan_of(sizes, {0, 0}), sizes, costs).first_token_s; }
};

/// Two layers that were coded together: four tokens, read in two requests of 2 s; a row is decoded in 0.25 s.
CodedTogether coded_together() {
  RestoreSizes sizes{.history = 4, .prompt = 1, .block = 1, .layers = {}};
  sizes.layers.assign(2, {{10, 10, 10, 10}, {0, 0, 0, 0}});
  code_in_groups(sizes, 2);
  for (StoredLayer& layer : sizes.layers) layer.most_bytes = 20;
  Costs costs;
  costs.link.bytes_per_s = 10;
  costs.layer.decode_row_s = 0.25;
  return {std::move(sizes), costs};
}

TEST_CASE("layers that were coded together are decoded while the rest of them is read") {
  CodedTogether restore = coded_together();
  CHECK(restore.first_token_s() ==
        doctest::Approx(4 + 1));  // two requests of 2 s; half of eight rows is left at the end
  restore.costs.layer.decode_row_s = 1;
  CHECK(restore.first_token_s() == doctest::Approx(2 + 8));  // decoding begins with the first request and takes longer
}

TEST_CASE("a prediction equals the slow twin") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 6000; ++i) {
    RestoreSizes sizes = random_sizes(random);
    if (random() % 2) code_in_groups(sizes, 1 + up_to(random, 3));
    if (i >= 4000)
      for (StoredLayer& layer : sizes.layers) layer.projected_share = static_cast<double>(up_to(random, 4)) / 4;
    const Costs costs = i < 4000 ? random_costs(random) : random_device_costs(random);
    const RestorePlan plan = plan_of(sizes, random_prefix(random, sizes));
    const Prediction fast = predict(plan, sizes, costs), slow = reference::SlowRestore(plan, sizes, costs).run();
    // Pairs, rows, requests and events, each added by itself; 4 for the products.
    const std::size_t tokens = sizes.history + sizes.prompt;
    const std::size_t terms = sizes.layers.size() * (tokens * (tokens + 3) + 4 * sizes.blocks() + 8) + 4;
    REQUIRE(equal_sums(fast.first_token_s, slow.first_token_s, terms));
    for (const Resource resource : all_resources) REQUIRE(equal_sums(fast.busy[resource], slow.busy[resource], terms));
    REQUIRE(fast.bytes == slow.bytes);
    REQUIRE(fast.bubble_s() >= -0x1p-40 * fast.first_token_s);
    if (costs.on.compute == Resource::device) continue;
    REQUIRE(fast.busy[Resource::copy] == 0);
    REQUIRE(fast.busy[Resource::device] == 0);
  }
}

TEST_CASE("cores that decode for a device, by hand") {
  const RestoreSizes sizes = two_loaded_layers();
  Costs costs = device_costs_by_hand(Resource::cores);
  const Prediction p = predict(plan_of(sizes, {0, 0}), sizes, costs);
  // Decoded at 4 and 6, copied at 7.5 and 11; the device projects by 1, finishes by 11.5, projects by 12.5, finishes by
  // 16.5.
  CHECK(p.bytes == 40);
  CHECK(p.first_token_s == doctest::Approx(18.5));
  CHECK(p.busy == ResourceTimes{{4, 4, 7, 12}});
  CHECK(p.busy.busiest() == Resource::device);
  CHECK(p.bubble_s() == doctest::Approx(6.5));

  costs.copy.bytes_per_s = 1;  // copied at 64.5 and 125
  const Prediction slow = predict(plan_of(sizes, {0, 0}), sizes, costs);
  CHECK(slow.first_token_s == doctest::Approx(125 + 4 + 2));
  CHECK(slow.busy.busiest() == Resource::copy);
  CHECK(slow.bubble_s() == doctest::Approx(10));

  costs.layer.decode_row_s = 100;  // decoded at 202 and 402, copied at 462.5
  CHECK(predict(plan_of(sizes, {0, 0}), sizes, costs).first_token_s == doctest::Approx(462.5 + 4 + 2));
}

TEST_CASE("a device that decodes, by hand") {
  const RestoreSizes sizes = two_loaded_layers();
  Costs costs = device_costs_by_hand(Resource::device);
  const Prediction p = predict(plan_of(sizes, {0, 0}), sizes, costs);
  // Copied as read at 3.5 and 5.5; the device decodes by 5.5, finishes by 9.5, projects by 10.5, decodes by 12.5.
  CHECK(p.first_token_s == doctest::Approx(18.5));
  CHECK(p.busy == ResourceTimes{{4, 0, 3, 16}});
  CHECK(p.bubble_s() == doctest::Approx(2.5));

  costs.link.core_s_per_byte = 0.2;  // the cores take 4 s a layer of the reads; what they have not seen is not copied
  const Prediction busy = predict(plan_of(sizes, {0, 0}), sizes, costs);
  CHECK(busy.first_token_s == doctest::Approx(20.5));
  CHECK(busy.busy[Resource::cores] == doctest::Approx(8));
}

TEST_CASE("what a device projects is copied as it was read, whoever decodes") {
  RestoreSizes sizes = two_loaded_layers();
  for (StoredLayer& layer : sizes.layers) layer.projected_share = 1;
  for (const Resource decode : {Resource::cores, Resource::device}) {
    const Prediction p = predict(plan_of(sizes, {0, 0}), sizes, device_costs_by_hand(decode));
    CHECK(p.busy[Resource::copy] == doctest::Approx(3));
    const double decoded_s = decode == Resource::device ? 4 : 0;
    CHECK(p.busy[Resource::device] == doctest::Approx(12 + 4 + decoded_s));
    CHECK(p.busy[Resource::cores] == doctest::Approx(4 - decoded_s));
  }
}

TEST_CASE("layers that were coded together go through all resources while the rest of them is read") {
  CodedTogether restore = coded_together();
  restore.costs.copy = {.latency_s = 0, .bytes_per_s = 20, .row_bytes = 10};
  restore.costs.on.compute = Resource::device;
  // Two requests of 2 s; of eight rows half is decoded at 3 and copied at 5, the other half at 5 and 7.
  CHECK(restore.first_token_s() == doctest::Approx(7));
}

TEST_CASE("a faster link or faster cores never predict later") {
  std::mt19937_64 random(2);
  for (int i = 0; i < 2000; ++i) {
    const RestoreSizes sizes = random_sizes(random);
    const Costs costs = random_costs(random);
    const RestorePlan plan = plan_of(sizes, random_prefix(random, sizes));
    const double before = predict(plan, sizes, costs).first_token_s;
    Costs faster = costs;
    double* const improved[] = {&faster.link.latency_s,      &faster.link.core_s_per_byte, &faster.layer.call_s,
                                &faster.layer.project_row_s, &faster.layer.finish_row_s,   &faster.layer.attend_pair_s,
                                &faster.layer.decode_row_s,  &faster.layer.attend_key_s,   &faster.pass_s};
    faster.link.bytes_per_s *= 1 + any_cost(random, -2, 2);
    *improved[up_to(random, std::size(improved) - 1)] *= 0.5;
    // Rounding is monotone, so even the computed times cannot rise.
    REQUIRE(predict(plan, sizes, faster).first_token_s <= before);
  }
}

TEST_CASE("neighbours in one object are one request up to the largest, across objects they are not") {
  RestoreSizes sizes{.history = 6, .prompt = 1, .block = 1, .layers = {}};
  Costs costs;
  costs.link = {.latency_s = 1, .bytes_per_s = 1e18, .core_s_per_byte = 0};
  const auto requests = [&](std::vector<std::uint64_t> bytes, std::vector<std::uint32_t> objects, std::size_t prefix) {
    sizes.layers = {{std::move(bytes), std::move(objects)}};
    return std::llround(predict(plan_of(sizes, {prefix}), sizes, costs).busy[Resource::link]);
  };
  CHECK(requests({1, 1, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 0}, 0) == 1);
  CHECK(requests({1, 1, 1, 1, 1, 1}, {0, 0, 1, 1, 0, 0}, 0) == 3);
  CHECK(requests({1, 1, 1, 1, 1, 1}, {0, 0, 1, 1, 0, 0}, 3) == 2);
  CHECK(requests({1, 1, 1, 1, 1, 1}, {0, 0, 1, 1, 0, 0}, 6) == 0);
  const std::uint64_t half = largest_request / 2;
  CHECK(requests({half, half, half, half, half, half}, {0, 0, 0, 0, 0, 0}, 0) == 3);
  CHECK(requests({half, half, half, half, half, half}, {0, 0, 0, 0, 0, 0}, 1) == 3);
  CHECK(requests({half, half + 1, half, 3 * half, 1, 1}, {0, 0, 0, 0, 0, 0}, 0) == 5);
}

TEST_CASE("opening is a request for the manifest, and so much a byte of it") {
  const Costs costs{.link = {.latency_s = 0.5, .bytes_per_s = 100, .core_s_per_byte = 9, .open_s = 8},
                    .layer = {},
                    .open_s = 0.25,
                    .open_s_per_byte = 0.125};
  CHECK(predict_opening_s(costs, 200) == 0.5 + 8 + 2 + 0.25 + 25);
  CHECK(Prediction{.opening_s = 1, .first_token_s = 2}.total_s() == 3);
  Costs bad = costs;
  bad.open_s = -1;
  CHECK_THROWS_AS(static_cast<void>(predict_opening_s(bad, 200)), PreconditionError);
}

TEST_CASE("without a history nothing is read and only the prompt is run") {
  const RestoreSizes sizes = realistic_sizes(0);
  const Prediction p = predict(plan_of(sizes, std::vector<std::size_t>(30, 0)), sizes, realistic_costs(1e9));
  CHECK(p.bytes == 0);
  CHECK(p.busy[Resource::link] == 0);
  CHECK(p.first_token_s == p.busy[Resource::cores]);
}

TEST_CASE("the predicted timeline adds up to the prediction") {
  const RestoreSizes sizes = realistic_sizes(1000);
  std::mt19937_64 random(3);
  const RestorePlan plan = plan_of(sizes, random_prefix(random, sizes));
  for (const Placement on :
       {Placement{}, Placement{Resource::device, Resource::cores}, Placement{Resource::device, Resource::device}}) {
    Costs costs = realistic_costs(1e8);
    costs.copy.row_bytes = 768;
    costs.on = on;
    const Prediction p = predict(plan, sizes, costs);
    const Timeline timeline = predict_timeline(plan, sizes, costs);
    ResourceTimes end;
    for (const Event& event : timeline.events()) {
      CHECK(event.begin_s >= end[event.resource]);  // a resource does one thing at a time
      end[event.resource] = event.end_s;
      CHECK(event.layer.has_value() == (event.name != "pass"));
    }
    for (const Resource resource : all_resources) CHECK(timeline.busy_s(resource) == doctest::Approx(p.busy[resource]));
    CHECK(end[on.compute] == p.first_token_s);
  }
}

TEST_CASE("plans, sizes and costs that do not hold are the caller's mistake") {
  const RestoreSizes sizes = realistic_sizes(1000);  // 15 blocks and 40 tokens
  const Costs costs = realistic_costs(1e8);
  const auto refuses = [&](std::vector<std::size_t> prefix) {
    CHECK_THROWS_AS(static_cast<void>(predict(plan_of(sizes, std::move(prefix)), sizes, costs)), PreconditionError);
  };
  std::vector<std::size_t> prefix(30, 0);
  CHECK_NOTHROW(static_cast<void>(predict(plan_of(sizes, prefix), sizes, costs)));
  refuses(std::vector<std::size_t>(29, 0));
  prefix[0] = 63;
  refuses(prefix);
  prefix[0] = 1024;
  refuses(prefix);
  prefix[0] = 64, prefix[1] = 128;
  refuses(prefix);
  RestorePlan other = plan_of(sizes, std::vector<std::size_t>(30, 0));
  other.prompt += 1;
  CHECK_THROWS_AS(static_cast<void>(predict(other, sizes, costs)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(predict_timeline(other, sizes, costs)), PreconditionError);
}
