// A restore to a device: what works where, by a clock that only the device and its copies move.
#include <doctest/doctest.h>

#include "krul/compress/exact_codec.hpp"
#include "krul/compress/hidden_states.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/restore/restore_by_tokens.hpp"
#include "krul/strategy/catalogue.hpp"
#include "support/decoding_toy_device.hpp"
#include "support/toy_conversation.hpp"

namespace krul::to_device {
namespace {

constexpr std::size_t history = 100, block = 16, layers = 4;

using test::DecodingToyDevice, test::ToyDevice;

template <class Model = ToyDevice>
struct OnDevice {
  Model model;
  MemoryStore store;
  std::vector<Token> tokens = test::toy_tokens(history + 5);
  test::Uninterrupted whole = test::run_through(model.inner, tokens);
  Workers workers{2};
  Manifest manifest;
  std::string folder = conversation_folder("saved").value();
  std::vector<float> logits = std::vector<float>(model.geometry().vocabulary);

  explicit OnDevice(const SavePlan& plan) {
    auto cache = model.inner.make_cache(256);
    auto batch = model.make_batch();
    HiddenStates hidden(model.geometry());
    const auto before = std::span(tokens).first(history);
    forward_keeping_hidden(model.inner, cache, batch, before, hidden);
    REQUIRE(
        save_as(model.inner, store, cache, before, {.id = "saved", .plan = plan, .source = &hidden, .block = block}));
    manifest = load_manifest(store, folder)->manifest;
  }

  RestoreReport restored(std::vector<std::size_t> prefix, std::optional<TokenSplit> split = {},
                         Resource decode = Resource::device) {
    auto cache = model.make_cache(256);
    const RestoreJob<Model, MemoryStore, ManualClock> job{.model = model,
                                                          .store = store,
                                                          .cache = cache,
                                                          .workers = workers,
                                                          .manifest = manifest,
                                                          .folder = folder,
                                                          .plan = {history, 5, block, std::move(prefix)},
                                                          .tokens = tokens,
                                                          .logits = logits,
                                                          .decode = decode,
                                                          .clock = model.clock};
    return split ? restore_by_tokens(job, *split).value() : restore(job).value();
  }
};

constexpr double pass_s = 1 + layers * (2 + 3 + 4) + 5;

TEST_CASE("rows are copied to a device that computes, and the report says what worked where") {
  OnDevice<> saved(SavePlan::separate(ExactCodec{}));
  const RestoreReport report = saved.restored({32, 16, 0, 0});
  CHECK(saved.logits == saved.whole.logits);
  const double copied_s = 7 * (5 + 6 + 7 + 7);  // blocks of each layer
  CHECK(report.busy[Resource::copy] == copied_s);
  CHECK(report.busy[Resource::device] == pass_s);
  CHECK(report.busy[Resource::cores] == 0);  // the clock stands while they decode
  CHECK(report.first_token_s == copied_s + pass_s);
  CHECK(report.bound_s() >= copied_s);
  for (const Event& event : report.timeline.events()) {
    CAPTURE(event.name);
    const bool decodes = event.name == "decode";
    if (event.resource == Resource::copy) CHECK(event.name == "copy");
    if (event.resource == Resource::cores) CHECK(decodes);
    if (event.name == "attend" || event.name == "logits") CHECK(event.resource == Resource::device);
  }
}

TEST_CASE("what has to be projected is so by the device") {
  SavePlan plan = SavePlan::separate(ExactCodec{});
  plan.from_source.assign(layers, true);
  OnDevice<> saved(plan);
  const RestoreReport report = saved.restored({0, 0, 0, 0});
  CHECK(report.busy[Resource::copy] == 0);
  CHECK(report.busy[Resource::device] == pass_s + layers * 2);  // one request a layer
  double projected_s = 0;
  for (const Event& event : report.timeline.events())
    if (event.name == "decode" && event.resource == Resource::device) projected_s += event.end_s - event.begin_s;
  CHECK(projected_s == layers * 2);
}

TEST_CASE("repairs are work of what computes") {
  OnDevice<> saved(SavePlan::separate(ExactCodec{}));
  const ChunkRecord chunk = saved.manifest.chunk(1, 3);
  test::flip_byte(saved.store, saved.folder + "/" + saved.manifest.objects[chunk.object], chunk.offset);
  const RestoreReport report = saved.restored({0, 0, 0, 0});
  CHECK(saved.logits == saved.whole.logits);
  CHECK(report.repaired_rows == block);
  CHECK(report.busy[Resource::device] == pass_s + 1 + (2 + 3 + 4) + 2);  // the layer above, and the layer's rows
}

TEST_CASE("token by token, a device computes the front and the prompt") {
  OnDevice<> saved(SavePlan::separate(ExactCodec{}));
  const RestoreReport report = saved.restored({0, 0, 0, 0}, TokenSplit{48, 512});
  CHECK(saved.logits == saved.whole.logits);
  CHECK(report.busy[Resource::copy] == 7 * 4 * layers);  // the blocks behind the front
  CHECK(report.busy[Resource::cores] == 0);
  CHECK(report.busy[Resource::device] + report.busy[Resource::copy] == report.first_token_s);
}

TEST_CASE("what a device could decode is decoded by the cores where they are told to, to the same bits") {
  constexpr std::size_t blocks = (history + block - 1) / block;
  for (const std::optional<TokenSplit> split : {std::optional<TokenSplit>(), std::optional(TokenSplit{0, 512})}) {
    CAPTURE(split.has_value());
    OnDevice<DecodingToyDevice> saved(SavePlan::separate(Int8Codec{}));
    const RestoreReport by_device = saved.restored({0, 0, 0, 0}, split);
    const auto expected = saved.logits;
    const RestoreReport by_cores = saved.restored({0, 0, 0, 0}, split, Resource::cores);
    CHECK(saved.logits == expected);
    CHECK(by_device.busy[Resource::copy] == 0);
    CHECK(by_device.first_token_s == by_cores.busy[Resource::device] + blocks * layers);
    CHECK(by_cores.busy[Resource::copy] == 7 * blocks * layers);
    CHECK(by_cores.loaded_rows == by_device.loaded_rows);
  }
}

}  // namespace
}  // namespace krul::to_device
