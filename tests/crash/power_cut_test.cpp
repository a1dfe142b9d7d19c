// Talks are saved and erased while all that is done to files is logged. After a power cut at any moment of it, what was
// not forced out may be gone: each durability keeps what it promises. KRUL_CRASH_ROUNDS=N logs N times.

#include "crash/power_cut.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <filesystem>
#include <random>
#include <vector>

#include "crash/saved_talks.hpp"
#include "probes/probe_support.hpp"
#include "support/system_calls.hpp"

namespace krul {
namespace {

using test::FoundTalk;
using test::LostNames;
using test::SavedTalks;
using test::TalkState;
using Random = std::mt19937_64;

constexpr std::size_t talks = 2;

/// Work that was logged, and what was acknowledged when.
struct Work {
  struct Moment {
    std::size_t done;                              ///< operations, at least
    std::vector<std::vector<TalkState>> possible;  ///< [talks] from then on: what was acknowledged, or is being done
  };
  test::FileLog log;
  std::vector<Moment> moments;

  [[nodiscard]] const std::vector<TalkState>& acknowledged(std::size_t talk, std::size_t done) const {
    const auto last = std::find_if(moments.rbegin(), moments.rend(), [&](const Moment& at) { return at.done <= done; });
    return last->possible[talk];
  }
  /// Whatever was saved or begun until then, and nothing.
  [[nodiscard]] std::vector<TalkState> ever(std::size_t talk, std::size_t done) const {
    std::vector<TalkState> states = {TalkState{}};
    for (const Moment& at : moments)
      if (at.done <= done) states.insert(states.end(), at.possible[talk].begin(), at.possible[talk].end());
    return states;
  }
};

/// Saves and erases talks. Some of the processes that do it die: no call of theirs does anything any more.
Work work(SavedTalks& saved, Durability durability, Random& random) {
  const test::ProbeDirectory directory;
  const auto open = [&] {
    return FileStore::open(directory.path / "a" / "new" / "store", {.durability = durability}).value();
  };
  Work work;
  std::vector<TalkState> states(talks);
  std::vector<std::vector<TalkState>> possible(talks, {TalkState{}});
  work.moments.push_back({0, possible});
  test::record(directory.path);
  for (std::size_t step = 0; step < 10; ++step) {
    const std::size_t talk = random() % talks;
    TalkState next{states[talk].text, states[talk].tokens + 1 + random() % 24};
    if (next.tokens > SavedTalks::longest || (next.tokens > 20 && random() % 4 == 0)) next = {next.text + 1, 0};
    possible[talk].push_back(next);
    work.moments.push_back({test::recorded() + 1, possible});

    const bool dies = random() % 2 == 0;
    FileStore store = open();
    if (dies) test::arm({.first = random() % (1 + random() % 30), .once = false, .writing = true, .number = EIO});
    const Status done = [&]() -> Status {
      if (next.tokens == 0) return SavedTalks::erase(store, talk);
      const auto rows = saved.save(store, talk, next);
      return rows ? Status{} : propagate(rows);
    }();
    test::disarm();
    states[talk] = next;
    if (!done) {
      // Another process goes on from what it finds, and may have told of that before.
      REQUIRE(dies);
      FileStore other = open();
      const bool tells = random() % 2 == 0;
      if (tells) REQUIRE(saved.finish(other, talk));
      const FoundTalk found = saved.look(other, talk, possible[talk]);
      REQUIRE_MESSAGE(found.wrong.empty(), found.wrong);
      REQUIRE((found.state && found.is_whole && found.is_loaded));
      states[talk] = *found.state;
      if (!tells) continue;
    }
    possible[talk] = {states[talk]};
    work.moments.push_back({test::recorded(), possible});
  }
  work.log = test::end_recording();
  return work;
}

/// What was found after many cuts.
struct Counts {
  std::size_t cuts = 0, talks = 0, older = 0, recomputed = 0, lost = 0;
};

/// What must hold for one talk after a cut.
struct Promise {
  Durability durability;
  LostNames names;
  bool acknowledged;  ///< what was acknowledged is there
  bool whole;         ///< what is there is there whole
  bool readable;      ///< there is a whole manifest, if there is any
};

void cut(SavedTalks& saved, const Work& work, const Promise& promise, std::size_t done, Random& random,
         Counts& counts) {
  const test::ProbeDirectory directory;
  test::PowerCut(work.log, promise.names).leave(done, random, directory.path);
  FileStore store = FileStore::open(directory.path / "a" / "new" / "store").value();
  ++counts.cuts;
  for (std::size_t talk = 0; talk < talks; ++talk) {
    CAPTURE(talk);
    const auto& acknowledged = work.acknowledged(talk, done);
    FoundTalk found = saved.look(store, talk, promise.acknowledged ? acknowledged : work.ever(talk, done));
    REQUIRE_MESSAGE(found.wrong.empty(), found.wrong);
    if (promise.whole) REQUIRE((found.is_whole && found.is_loaded));
    if (promise.readable) REQUIRE(found.state);
    ++counts.talks;
    counts.lost += found.state ? 0 : 1;
    counts.recomputed += found.state && !found.is_loaded ? 1 : 0;
    const bool is_newest =
        found.state && std::find(acknowledged.begin(), acknowledged.end(), *found.state) != acknowledged.end();
    counts.older += found.state && !is_newest ? 1 : 0;

    // Whatever is there, the talk goes on, or begins anew where it is lost; nothing wrong is left then.
    if (!found.state) {
      REQUIRE(!saved.finish(store, talk));
      REQUIRE(SavedTalks::erase(store, talk));
      found.state = TalkState{};
    }
    const TalkState next{found.state->text, std::min(found.state->tokens + 5, SavedTalks::longest)};
    const auto rows = saved.save(store, talk, next);
    REQUIRE_MESSAGE(rows, rows.error().message);
    const FoundTalk mended = saved.look(store, talk, std::span(&next, 1));
    REQUIRE_MESSAGE(mended.wrong.empty(), mended.wrong);
    REQUIRE((mended.is_whole && mended.is_loaded));
    REQUIRE(store.dead_writes(SavedTalks::folder(talk)).empty());
    REQUIRE(verify_conversation(store, SavedTalks::folder(talk))->leftovers.empty());
  }
}

Counts cut_everywhere(const Promise& promise) {
  SavedTalks saved;
  Counts counts;
  const std::size_t rounds = test::crash_rounds(10), cuts = 30;
  for (std::size_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    Random random(round);
    const Work logged = work(saved, promise.durability, random);
    for (std::size_t i = 0; i < cuts; ++i) {
      // Where something has just been acknowledged, as often as anywhere.
      const std::size_t all = logged.log.operations.size(),
                        done = i % 2 == 0 ? random() % (all + 1)
                                          : std::min(all, logged.moments[random() % logged.moments.size()].done);
      CAPTURE(done);
      cut(saved, logged, promise, done, random, counts);
    }
  }
  MESSAGE(counts.cuts << " cuts, " << counts.talks << " talks: " << counts.older << " older than acknowledged, "
                      << counts.recomputed << " with rows to recompute, " << counts.lost << " lost");
  return counts;
}

TEST_CASE("full: whatever was acknowledged is there after any power cut") {
  const Counts counts = cut_everywhere(
      {.durability = Durability::full, .names = LostNames::any, .acknowledged = true, .whole = true, .readable = true});
  CHECK(counts.older + counts.recomputed + counts.lost == 0);
}

TEST_CASE("data, where a file system keeps the order of names: a save may be lost, and what is there is whole") {
  cut_everywhere({.durability = Durability::data,
                  .names = LostNames::newest,
                  .acknowledged = false,
                  .whole = true,
                  .readable = true});
}

TEST_CASE("data, where it does not: rows may have to be recomputed, and no tokens are lost of what was saved before") {
  cut_everywhere({.durability = Durability::data,
                  .names = LostNames::any,
                  .acknowledged = false,
                  .whole = false,
                  .readable = true});
}

TEST_CASE("none: anything may be lost, and is told; no rows are wrong") {
  cut_everywhere({.durability = Durability::none,
                  .names = LostNames::any,
                  .acknowledged = false,
                  .whole = false,
                  .readable = false});
}

}  // namespace
}  // namespace krul
