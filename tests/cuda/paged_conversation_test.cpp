#include <doctest/doctest.h>

#include "../../examples/07_paged_engine/engine.hpp"
#include "cuda/ordered_device.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/load.hpp"

using namespace krul;
using cuda::test::OrderedDevice;

TEST_CASE("a conversation in an engine's pages is saved, and restored into other pages") {
  OrderedDevice device(1);
  paged::Engine<OrderedDevice> engine(device);
  static_assert(ModelBackend<decltype(engine)>);
  MemoryStore store;
  std::vector<float> logits(engine.geometry().vocabulary), restored(logits.size());
  std::vector<Token> tokens;
  for (Token token = 7; tokens.size() < 70; token = (token * 21 + 13) % 64) tokens.push_back(token);
  const auto open = [&] { return open_conversation(engine, store, "garden", strategy::load(ExactCodec{})).value(); };
  {
    auto conversation = open();
    conversation.advance(std::span(tokens).first(67), logits).value();
    CHECK(conversation.save().value().rows == 67);
    conversation.advance(tokens, logits).value();
  }
  auto conversation = open();
  const auto report = conversation.advance(tokens, restored).value();
  CHECK(report.loaded_rows > 0);
  CHECK(report.reasons.empty());
  CHECK(restored == logits);
}
