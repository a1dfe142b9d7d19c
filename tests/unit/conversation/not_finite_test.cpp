// Numbers that are not finite end in one clear error, and nothing that follows from them is kept.

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <limits>

#include "krul/backend/forward_each.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/poisoned_backend.hpp"
#include "support/toy_conversation.hpp"

namespace krul::not_finite_test {

using test::PoisonedBackend, test::toy_tokens;

namespace {

std::string thrown_by(const std::function<void()>& action) {
  try {
    action();
  } catch (const NotFiniteError& error) {
    return error.what();
  }
  return "nothing";
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// Overwrites the first value of K, or V, in one layer and token of a cache of f32.
void put(toy::Backend::Cache& cache, std::vector<std::byte> OwnedKvRows::*part, std::size_t layer, std::size_t token,
         float value) {
  OwnedKvRows row = read_kv_rows(cache, toy::Backend(ElementType::f32).geometry(), layer, {token, token + 1});
  std::memcpy((row.*part).data(), &value, sizeof value);
  cache.wait(cache.write_kv(layer, {token, token + 1}, row.view()));
}

}  // namespace

TEST_CASE("a pass whose logits are not finite says which layer, and commits nothing") {
  PoisonedBackend model;
  const auto tokens = toy_tokens(12);
  auto batch = model.make_batch();
  std::vector<float> logits(2 * model.geometry().vocabulary);
  const auto one = std::span(logits).first(model.geometry().vocabulary);
  for (std::size_t layer = 0; layer < model.geometry().layers; ++layer) {
    model.layer = layer;
    auto cache = model.make_cache(32), other = model.make_cache(32);
    const std::string wanted = layer + 1 < model.geometry().layers
                                   ? "the numbers of layer " + std::to_string(layer + 1) + " are not finite"
                                   : "K and V of all layers are";
    CHECK(contains(thrown_by([&] { forward(model, cache, batch, tokens, one); }), wanted));
    CHECK(cache.length() == 0);
    const Continuation<PoisonedBackend::Cache> parts[] = {{&cache, tokens}, {&other, tokens}};
    CHECK(contains(thrown_by([&] { forward_each<PoisonedBackend>(model, batch, parts, logits); }), wanted));
  }
  model.layer.reset();
  model.output = true;
  auto cache = model.make_cache(32);
  CHECK(contains(thrown_by([&] { prefill(model, cache, batch, tokens, one, 5); }), "the logits are not finite"));
  model.output = false;
  cache.truncate(0);
  forward(model, cache, batch, tokens, one);
  CHECK(cache.length() == tokens.size());
}

TEST_CASE("a conversation with numbers that are not finite fails, saves nothing, and goes on once they are") {
  PoisonedBackend model;
  MemoryStore store;
  const auto tokens = toy_tokens(60);
  std::vector<float> logits(model.geometry().vocabulary);
  auto talk = open_conversation(model, store, "talk").value();
  model.layer = 1;
  const auto failed = talk.advance(tokens, logits);
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == ErrorCode::backend);
  CHECK(contains(failed.error().message, "layer 2"));
  CHECK(store.list("").value().empty());

  model.layer.reset();
  REQUIRE(talk.advance(tokens, logits));
  model.output = true;
  CHECK(talk.append(3, logits).error().code == ErrorCode::backend);
  CHECK(talk.tokens() == tokens);
  auto more = tokens;
  more.resize(400, 5);
  CHECK(talk.advance(more, logits).error().code == ErrorCode::backend);
  model.output = false;
  REQUIRE(talk.save());
  REQUIRE(talk.append(3, logits));
  auto all = tokens;
  all.push_back(3);
  CHECK(talk.tokens() == all);
  const auto whole = test::run_through(model, all);
  CHECK(logits == whole.logits);
}

TEST_CASE("rows that are not finite are not saved, by whatever coding, at once or in the background") {
  PoisonedBackend model(ElementType::f32);
  const auto tokens = toy_tokens(70);
  std::vector<float> logits(model.geometry().vocabulary);
  for (const char* codec : {"exact", "f16", "int8", "int4"}) {
    MemoryStore store;
    auto talk = open_conversation(model, store, "talk", strategy::load(row_codec_from_name(codec).value())).value();
    REQUIRE(talk.advance(tokens, logits));
    put(talk.cache(), &OwnedKvRows::values, 2, 66, -std::numeric_limits<float>::infinity());
    const auto failed = talk.save();
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == ErrorCode::backend);
    CHECK(contains(failed.error().message, "layer 2, tokens 64 to 69"));
    REQUIRE(talk.save_in_background());
    CHECK(talk.finish_save().error().code == ErrorCode::backend);
    CHECK(store.list("").value().empty());
  }
}

TEST_CASE("hidden states that two bytes cannot hold are not saved") {
  toy::Backend model;
  const auto tokens = toy_tokens(20);
  auto cache = model.make_cache(20);
  auto batch = model.make_batch();
  HiddenStates hidden(model.geometry());
  forward_keeping_hidden(model, cache, batch, tokens, hidden);
  HiddenStates large(model.geometry());
  for (std::size_t layer = 0; layer < model.geometry().layers; ++layer)
    large.append(layer, std::vector<float>(tokens.size() * model.geometry().hidden, layer == 3 ? 1e6F : 1.0F));
  SavePlan plan;
  plan.from_source.assign(model.geometry().layers, true);
  MemoryStore store;
  const auto failed = save_as(model, store, cache, tokens, {.id = "talk", .plan = plan, .source = &large});
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == ErrorCode::backend);
  CHECK(contains(failed.error().message, "layer 3"));
  CHECK(save_as(model, store, cache, tokens, {.id = "talk", .plan = plan, .source = &hidden}).has_value());
}

TEST_CASE("what decodes to numbers that are not finite is recomputed, though its bytes are what was written") {
  toy::Backend model(ElementType::f32);
  const auto tokens = toy_tokens(100);
  const auto whole = test::run_through(model, tokens);
  std::vector<float> logits(model.geometry().vocabulary);
  MemoryStore store;
  {
    auto talk = open_conversation(model, store, "talk", strategy::load(F16Codec{})).value();
    REQUIRE(talk.advance(std::span(tokens).first(90), logits));
    put(talk.cache(), &OwnedKvRows::values, 1, 70, 1e6F);  // finite, but not as f16
    REQUIRE(talk.save());
  }
  auto talk = open_conversation(model, store, "talk", {.read_only = true}).value();
  const auto report = talk.advance(tokens, logits).value();
  CHECK(report.repaired_rows == 26);  // tokens 64 to 89 of one layer
  CHECK_FALSE(report.reasons.empty());
  for (std::size_t layer = 0; layer < model.geometry().layers; ++layer)
    CHECK(are_finite(ElementType::f32, read_kv_rows(talk.cache(), model.geometry(), layer, {0, 100}).view()));
  for (std::size_t i = 0; i < logits.size(); ++i) CHECK(logits[i] == doctest::Approx(whole.logits[i]).epsilon(0.02));
}

TEST_CASE("where loaded rows lead to logits that are not finite, everything is recomputed") {
  toy::Backend model(ElementType::f32);
  const auto tokens = toy_tokens(100);
  const auto whole = test::run_through(model, tokens);
  for (const bool by_tokens : {false, true}) {
    std::vector<float> logits(model.geometry().vocabulary);
    MemoryStore store;
    auto talk = open_conversation(model, store, "talk", strategy::load(ExactCodec{})).value();
    REQUIRE(talk.advance(std::span(tokens).first(90), logits));
    for (std::size_t token = 0; token < 90; ++token) put(talk.cache(), &OwnedKvRows::keys, 0, token, 3e38F);
    REQUIRE(talk.save());
    auto cache = model.make_cache(100);
    Workers workers(1);
    const RestoreJob<toy::Backend, MemoryStore> job{
        .model = model,
        .store = store,
        .cache = cache,
        .workers = workers,
        .manifest = talk.manifest(),
        .folder = talk.folder(),
        .plan = RestorationScheduler<FullLoad>{}.plan(restore_sizes(talk.manifest(), 90, 10), {}),
        .tokens = tokens,
        .logits = logits};
    const auto report = by_tokens ? restore_by_tokens(job, {.front = 0}) : restore(job);
    REQUIRE(report);
    CHECK(report->recomputed_all);
    CHECK(report->loaded_rows == 0);
    CHECK(logits == whole.logits);
    CHECK(cache.length() == 100);
  }
}

}  // namespace krul::not_finite_test
