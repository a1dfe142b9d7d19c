#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "cuda/model/tiny_on_device.hpp"
#include "krul/backend/conformance.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/eval/restore_once.hpp"
#include "krul/model/cpu_backend.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "krul/strategy/composed.hpp"
#include "krul/strategy/fixed_pairs.hpp"
#include "support/profile_samples.hpp"

using namespace krul;
using cuda::test::OrderedDevice, cuda::test::TinyOnDevice;

namespace {

constexpr std::size_t history = 140, fresh = 10;
const krul::testing::TinyModel shape{.layers = 4, .context = 256};

std::vector<Token> some_tokens() {
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < history + fresh; ++i)
    tokens.push_back(static_cast<Token>((i * i * 7 + 13 * i) % shape.vocabulary));
  return tokens;
}

CpuBackend<AnyKernels> host_model(const TinyOnDevice& on_device) {
  return std::move(CpuBackend<AnyKernels>::load(on_device.file(),
                                                *AnyKernels::choose(KernelChoice::krul, Precision::f32),
                                                {.threads = 2, .tokenizer = "tiny"})
                       .value());
}

/// What a model says after it has restored a history.
template <ModelBackend B>
std::vector<float> logits_after(B& model, AnyStore& store, const eval::Returning& returning) {
  const auto restored = eval::restore_once(model, store, returning, fresh);
  INFO((restored ? std::string() : restored.error().message));
  REQUIRE(restored);
  CHECK(restored->figure.report.reasons.empty());
  return restored->logits;
}

}  // namespace

TEST_CASE("every strategy saves from a device and restores to it, and to a processor, and the other way round") {
  TinyOnDevice on_device(shape, 5);
  auto on_host = host_model(on_device);
  const Geometry& geometry = on_host.geometry();
  auto data = krul::testing::random_profile(geometry, {1, 3}, geometry.kv_values(), geometry.hidden, 31);
  data.model = on_host.identity().weights;
  const auto profile = Profile::create(std::move(data), geometry);
  REQUIRE(profile);
  const auto tokens = some_tokens();
  const auto before = std::span(tokens).first(history);
  const auto all = strategy::catalogue(*profile);
  std::vector<AnyStrategy> strategies;
  for (const auto& listed : all) strategies.push_back(listed.strategy);
  const auto coming = std::span(tokens).subspan(history);
  const auto of_device = eval::prefill_exact(on_device.model, before, fresh, strategies, coming);
  const auto of_host = eval::prefill_exact(on_host, before, fresh, strategies, coming);
  // Both compute in f32 what the other computes, and read the same rows.
  const double allowed = default_tolerance(geometry, geometry.cache_type);
  for (const AnyStrategy& strategy : strategies) {
    CAPTURE(strategy.name());
    for (const bool saved_on_device : {true, false}) {
      AnyStore store = MemoryStore();
      const eval::HistorySave save{.strategy = strategy, .id = "garden"};
      auto returning = saved_on_device ? eval::save_returning(on_device.model, store, of_device, before, save)
                                       : eval::save_returning(on_host, store, of_host, before, save);
      INFO((returning ? std::string() : returning.error().message));
      REQUIRE(returning);
      returning->tokens.insert(returning->tokens.end(), tokens.begin() + history, tokens.end());
      const auto on = logits_after(on_device.model, store, *returning);
      const auto off = logits_after(on_host, store, *returning);
      CHECK(conformance::relative_difference(on, off, geometry.vocabulary) <= allowed);
    }
  }
  CHECK(strategies.size() >= 26);
}

namespace {

const krul::testing::TinyModel small{.layers = 2, .context = 128};

/// A conversation that a device saved, which comes back.
struct Garden {
  TinyOnDevice on_device{small, 5};
  AnyStrategy strategy;
  MemoryStore store;
  std::vector<Token> tokens;
  std::vector<float> expected;
  std::optional<Costs> costs = {};

  template <ModelBackend B>
  [[nodiscard]] auto open(B& model) {
    ConversationOptions options{.strategy = strategy};
    options.capacity = 100;
    options.threads = 4;
    options.costs = costs;
    return open_conversation(model, store, "garden", options);
  }
  explicit Garden(AnyStrategy how = strategy::load(Int8Codec{})) : strategy(std::move(how)) {
    for (std::size_t i = 0; i < 90; ++i) tokens.push_back(static_cast<Token>((i * i * 7 + 13 * i) % shape.vocabulary));
    {
      auto first = open(on_device.model);
      std::vector<float> unasked(on_device.model.geometry().vocabulary);
      REQUIRE(first->advance(std::span(tokens).first(80), unasked));
      REQUIRE(first->save());
    }
    expected = said(on_device.model).value();
  }
  /// What a model says after the conversation.
  template <ModelBackend B>
  [[nodiscard]] Result<std::vector<float>> said(B& model) {
    std::vector<float> logits(model.geometry().vocabulary);
    auto conversation = open(model);
    if (!conversation) return propagate(conversation);
    const auto report = conversation->advance(tokens, logits);
    if (!report) return propagate(report);
    CHECK(report->loaded_rows > 0);
    return logits;
  }
};

}  // namespace

TEST_CASE("a conversation on a device is saved beside its next tokens") {
  Garden garden;
  const std::span<const Token> tokens = garden.tokens;
  std::vector<float> logits(garden.on_device.model.geometry().vocabulary), again(logits.size());
  {
    auto live = garden.open(garden.on_device.model);
    REQUIRE(live->advance(tokens.first(85), logits));
    REQUIRE(live->save_in_background());
    for (const Token token : tokens.subspan(85)) REQUIRE(live->append(token, logits));
    const auto saved = live->finish_save();
    REQUIRE(saved);
    CHECK(saved->rows == 85);
  }
  auto back = garden.open(garden.on_device.model);
  REQUIRE(back->advance(tokens, again));
  const Geometry& geometry = garden.on_device.model.geometry();
  // Rows of one block are int8 where the live ones were not: off by half a step of 127 in each of K and V.
  CHECK(conformance::relative_difference(again, logits, geometry.vocabulary) <=
        default_tolerance(geometry, geometry.cache_type) + 4 * std::sqrt(2.0) / 127);
}

TEST_CASE("a device that has no memory left fails a restore, and the next one succeeds") {
  Garden garden;
  OrderedDevice& device = garden.on_device.device;
  device.fail_allocation(OrderedDevice::never);
  REQUIRE(garden.said(garden.on_device.model));
  const std::size_t allocations = device.allocations();
  CHECK(allocations > 3);
  std::size_t refused = 0;
  for (std::size_t number = 0; number < allocations; ++number) {
    CAPTURE(number);
    device.fail_allocation(number);
    const auto failed = garden.said(garden.on_device.model);
    if (failed)  // rooms for chunks are fewer where there is no memory for all
      CHECK(*failed == garden.expected);
    else
      CHECK(failed.error().code == ErrorCode::no_space);
    refused += failed ? 0 : 1;
    device.fail_allocation(OrderedDevice::never);
    const auto restored = garden.said(garden.on_device.model);
    REQUIRE(restored);
    CHECK(*restored == garden.expected);
  }
  CHECK(refused + 3 >= allocations);
}

TEST_CASE("a device that fails for good fails restores with its error, and a processor goes on") {
  Garden garden;
  auto on_host = host_model(garden.on_device);
  garden.on_device.device.fail_from(OrderedDevice::never);
  REQUIRE(garden.said(garden.on_device.model));
  const std::size_t calls = garden.on_device.device.calls();
  for (std::size_t number = 0; number < calls; number += 1 + calls / 40) {
    CAPTURE(number);
    TinyOnDevice poisoned(small, number);
    poisoned.device.fail_from(number);
    const auto failed = garden.said(poisoned.model);
    REQUIRE_FALSE(failed);
    CHECK(failed.error().message == "the device has failed");
    CHECK(garden.said(on_host));
  }
}

TEST_CASE("what is stored crosses the link and is decoded behind it, unless the cores are sooner") {
  const auto copied = [](const AnyStrategy& strategy, Resource decode = Resource::device) {
    Garden garden(strategy);
    garden.costs = Costs{.link = {}, .layer = {}, .on = {.compute = Resource::device, .decode = decode}};
    const OrderedDevice& device = garden.on_device.device;
    const std::size_t before = device.copied();
    const auto said = garden.said(garden.on_device.model);
    REQUIRE(said);
    CHECK(*said == garden.expected);  // without costs the device decodes
    return device.copied() - before;
  };
  const Geometry geometry = Garden().on_device.model.geometry();
  const std::size_t rows = 64 * geometry.f16_token_bytes();  // of the one block that is whole
  const std::size_t exact = copied(strategy::load(ExactCodec{})), int8 = copied(strategy::load(Int8Codec{}));
  CHECK(exact - int8 >= rows / 3);
  CHECK(copied(strategy::load(Int8Codec{}), Resource::cores) >= exact);  // rows of the block, and of the last one
  const Composed<RandomPairs, LayerPairCompressor<SlerpMerge, F16Codec>> all_pairs("pairs", {.kept_share = 0.5});
  CHECK(exact - copied(all_pairs) >= rows / 3);
}

TEST_CASE("each wait of a restore and the pass after it is missed if it is left out, or covered by others") {
  Garden garden;
  std::size_t waits = 0;
  {
    TinyOnDevice whole(small, 1);
    const std::size_t before = whole.device.waits();
    REQUIRE(garden.said(whole.model));
    waits = whole.device.waits() - before;
  }
  std::size_t missed = 0, same = 0;
  for (std::size_t i = 0; i < waits; ++i) {
    const std::size_t loaded = TinyOnDevice(small, 1).device.waits();
    TinyOnDevice without(small, i, loaded + i);
    try {
      const auto logits = garden.said(without.model);
      const bool is_same = logits && *logits == garden.expected;
      (is_same ? same : missed) += 1;
    } catch (const cuda::test::Unordered&) {
      ++missed;
    }
  }
  MESSAGE(missed << " of " << waits << " waits are missed");
  // Nobody has touched a new cache before chunks are decoded into it, and the host waits for what is read in any case.
  CHECK(same <= 5);
}

TEST_CASE("a device that fails a save fails it with its error") {
  for (const bool in_background : {false, true}) {
    std::size_t calls = 1;
    for (std::size_t number = 0; number < calls; number += 1 + calls / 15) {
      CAPTURE(number);
      CAPTURE(in_background);
      Garden garden;
      OrderedDevice& device = garden.on_device.device;
      auto live = garden.open(garden.on_device.model);
      std::vector<float> logits(garden.on_device.model.geometry().vocabulary);
      REQUIRE(live->advance(garden.tokens, logits));
      device.fail_from(number == 0 ? OrderedDevice::never : number - 1);
      const auto save = [&]() -> Status {
        if (!in_background) return live->save() ? Status{} : fail(ErrorCode::backend, "the device has failed");
        if (auto begun = live->save_in_background(); !begun) return begun;
        const auto saved = live->finish_save();
        return saved ? Status{} : propagate(saved);
      };
      const Status saved = save();
      CHECK(saved.has_value() == (number == 0));
      if (number == 0) calls = device.calls();
      if (!saved) CHECK(saved.error().message.find("the device has failed") != std::string::npos);
      device.fail_from(OrderedDevice::never);
    }
  }
}
