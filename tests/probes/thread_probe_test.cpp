// Saves and restores of a process that gets no thread: slower, and else as ever.
#include <doctest/doctest.h>

#include "krul/store/throttled_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "probe_support.hpp"
#include "support/failing_threads.hpp"

namespace krul {
namespace {

using test::NoThreads;
using test::ProbedTalk;

TEST_CASE("without threads a restore reads by itself, near or far, layer by layer or token by token") {
  ProbedTalk probed;
  probed.reset();
  auto options = probed.talk.options;
  options.read_only = true;
  options.threads = 3;
  const auto tokens = std::span(probed.talk.tokens).first(ProbedTalk::next);
  for (const bool is_far : {false, true})
    for (const bool by_token : {false, true}) {
      CAPTURE(is_far);
      CAPTURE(by_token);
      AnyStore store = probed.store;
      if (is_far)
        store = ThrottledStore<FileStore>(probed.store,
                                          {.bytes_per_s = 1'000'000'000'000, .latency = std::chrono::nanoseconds(1)});
      options.strategy = by_token ? strategy::by_layer("exact", ExactCodec{}, AnyPolicy(TwoPointers(8)))
                                  : strategy::by_layer("exact", ExactCodec{}, AnyPolicy(FullLoad{}));
      const NoThreads none;
      auto opened = test::ToyTalk::Talk::open(probed.talk.model, store, "a talk", options);
      REQUIRE(opened);
      const auto restored = opened->advance(tokens, probed.talk.logits);
      REQUIRE(restored);
      CHECK(restored->repaired_rows == 0);
      if (!by_token) CHECK(restored->loaded_rows > 0);  // else it computes while nothing has come by itself
      CHECK(probed.talk.is_right(ProbedTalk::next));
    }
}

TEST_CASE("without threads a save in the background has ended when it is begun") {
  ProbedTalk probed;
  probed.reset();
  auto opened = test::ToyTalk::Talk::open(probed.talk.model, probed.talk.store, "a talk", probed.talk.options);
  REQUIRE(opened);
  REQUIRE(opened->advance(std::span(probed.talk.tokens).first(ProbedTalk::next), probed.talk.logits));
  {
    const NoThreads none;
    REQUIRE(opened->save_in_background());
  }
  CHECK_FALSE(opened->saving());
  REQUIRE(opened->finish_save());
  CHECK(probed.talk.manifest().rows == ProbedTalk::next);
}

}  // namespace
}  // namespace krul
