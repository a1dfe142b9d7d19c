// Saves, restores and erases that get no memory at each point in turn. By default some points of each, spread evenly;
// KRUL_PROBES=N (any N above 0) tries all.
#include <doctest/doctest.h>

#include <algorithm>
#include <new>
#include <optional>

#include "krul/conversation/saved_conversations.hpp"
#include "krul/store/throttled_store.hpp"
#include "probe_support.hpp"
#include "support/failing_allocations.hpp"

namespace krul {
namespace {

using test::AllocationFault;
using test::begin_failing;
using test::end_failing;
using test::ProbedTalk;

/// Calls probe(fault) with an allocation failing once, and all from there on. It returns how many there were.
template <class Probe>
void with_every_allocation_failing(Probe&& probe) {
  const std::uint64_t all = probe(AllocationFault{.first = UINT64_MAX});
  const std::uint64_t stride = test::probes(0) > 0 ? 1 : std::max<std::uint64_t>(all / 150, 1);
  std::size_t tried = 0;
  for (const bool once : {true, false})
    for (std::uint64_t first = 0; first < all; first += stride, ++tried) {
      CAPTURE(first);
      CAPTURE(once);
      const std::size_t before = test::open_files();
      static_cast<void>(probe(AllocationFault{first, once}));
      REQUIRE(test::open_files() == before);
    }
  MESSAGE(tried << " of " << 2 * all << " faults");
}

/// What a call returns, or nothing if it threw that there is no memory.
template <class Call>
auto without_memory(const AllocationFault& fault, std::uint64_t& count, Call&& call)
    -> std::optional<decltype(call())> {
  std::optional<decltype(call())> result;
  begin_failing(fault);
  try {
    result.emplace(call());
  } catch (const std::bad_alloc&) {
  }
  count = end_failing();
  return result;
}

TEST_CASE("wherever a turn gets no memory, nothing that was saved is lost, and the next turn makes up for it") {
  ProbedTalk probed;
  with_every_allocation_failing([&](const AllocationFault& fault) {
    probed.reset();
    std::uint64_t count = 0;
    const auto turn = without_memory(fault, count, [&]() -> Result<SaveReport> {
      auto opened = test::ToyTalk::Talk::open(probed.talk.model, probed.talk.store, "a talk", probed.talk.options);
      if (!opened) return propagate(opened);
      const auto ran = opened->advance(std::span(probed.talk.tokens).first(ProbedTalk::next), probed.talk.logits);
      if (!ran) return propagate(ran);
      return opened->save();
    });
    const auto loaded = load_manifest(probed.store, probed.talk.folder);
    REQUIRE(loaded);
    const std::size_t rows = loaded->manifest.rows;
    REQUIRE((rows == ProbedTalk::saved || rows == ProbedTalk::next));
    if (turn && *turn) REQUIRE(rows == ProbedTalk::next);
    REQUIRE(verify_conversation(probed.store, probed.talk.folder)->problems.empty());
    const std::string wrong = probed.goes_on();
    REQUIRE_MESSAGE(wrong.empty(), wrong);
    return count;
  });
}

TEST_CASE("wherever a restore gets no memory, near or far, the rows are right or it fails, and what is saved stays") {
  ProbedTalk probed;
  probed.reset();
  auto options = probed.talk.options;
  options.read_only = true;
  const auto tokens = std::span(probed.talk.tokens).first(ProbedTalk::next);
  for (const bool is_far : {false, true}) {
    AnyStore store = probed.store;
    if (is_far)
      store = ThrottledStore<FileStore>(probed.store,
                                        {.bytes_per_s = 1'000'000'000'000, .latency = std::chrono::nanoseconds(1)});
    with_every_allocation_failing([&](const AllocationFault& fault) {
      std::ranges::fill(probed.talk.logits, 0.0F);
      std::uint64_t count = 0;
      const auto restored = without_memory(fault, count, [&]() -> Result<RestoreReport> {
        auto opened = test::ToyTalk::Talk::open(probed.talk.model, store, "a talk", options);
        if (!opened) return propagate(opened);
        return opened->advance(tokens, probed.talk.logits);
      });
      if (restored && *restored) REQUIRE(probed.talk.is_right(ProbedTalk::next));
      REQUIRE(probed.talk.manifest().rows == ProbedTalk::saved);
      REQUIRE(probed.has_no_leftovers());
      return count;
    });
  }
  CHECK(probed.goes_on().empty());
}

TEST_CASE("wherever a live conversation gets no memory, it goes on as if it had not been asked") {
  ProbedTalk probed;
  probed.reset();
  with_every_allocation_failing([&](const AllocationFault& fault) {
    auto opened = test::ToyTalk::Talk::open(probed.talk.model, probed.talk.store, "a talk", probed.talk.options);
    REQUIRE(opened);
    const auto first = std::span(probed.talk.tokens).first(ProbedTalk::saved + 4);
    REQUIRE(opened->advance(first, probed.talk.logits));
    const auto tokens = std::span(probed.talk.tokens).first(ProbedTalk::next);
    std::uint64_t count = 0;
    const auto ran = without_memory(fault, count, [&] { return opened->advance(tokens, probed.talk.logits); });
    if (!ran || !*ran) REQUIRE(opened->advance(tokens, probed.talk.logits));
    REQUIRE(probed.talk.is_right(ProbedTalk::next));
    return count;
  });
}

TEST_CASE("wherever an erase gets no memory, it is finished by the next one") {
  ProbedTalk probed;
  with_every_allocation_failing([&](const AllocationFault& fault) {
    probed.reset();
    std::uint64_t count = 0;
    static_cast<void>(without_memory(fault, count, [&] { return erase_saved(probed.store, "a talk"); }));
    const auto again = erase_saved(probed.store, "a talk");
    if (!again) CAPTURE(again.error().message);
    if (!again) REQUIRE_MESSAGE(again.error().code == ErrorCode::not_found, again.error().message);
    REQUIRE(probed.files().empty());
    const std::string wrong = probed.goes_on();
    REQUIRE_MESSAGE(wrong.empty(), wrong);
    return count;
  });
}

}  // namespace
}  // namespace krul
