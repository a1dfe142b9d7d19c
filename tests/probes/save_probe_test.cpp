// Saves, restores and erases of which every call of the system fails in turn, and which are killed at every call. By
// default each call meets one error; KRUL_PROBES=N (any N above 0) tries each with all of them, and N kills at random
// moments.

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "krul/store/encryption_keys.hpp"
#include "probe_support.hpp"
#include "support/system_calls.hpp"

namespace krul {
namespace {

using test::arm;
using test::CallFault;
using test::disarm;
using test::in_a_child;
using test::open_files;
using test::ProbedTalk;

constexpr std::array errors = {EIO, ENOSPC, EDQUOT, EMFILE, EROFS, EACCES, EINTR, ENOMEM, ESTALE};

/// Whether a message is one line that says more than an errno does.
bool is_sentence(std::string_view message) {
  return message.size() > 30 && message.find(' ') != message.npos && message.find('\n') == message.npos;
}

/// Calls probe(fault) with every call failing once, and failing from there on, until no call is hit any more.
template <class Probe>
void with_every_fault(Probe&& probe) {
  const bool all = test::probes(0) > 0;
  std::size_t faults = 0;
  for (const bool once : {true, false})
    for (const bool writing : {false, true})
      for (std::size_t error = 0; error < (all ? errors.size() : 1); ++error)
        for (std::uint64_t call = 0;; ++call) {
          const int number = errors[(all ? error : call) % errors.size()];
          // A signal that comes for ever is no fault of the system.
          if (!once && number == EINTR && all) break;
          if (!once && number == EINTR) continue;
          CAPTURE(call);
          CAPTURE(once);
          CAPTURE(writing);
          CAPTURE(number);
          const std::size_t before = open_files();
          if (!probe(CallFault{.first = call, .once = once, .writing = writing, .number = number})) break;
          REQUIRE(open_files() == before);
          ++faults;
        }
  MESSAGE(faults << " faults");
}

TEST_CASE("whichever call of a turn fails, nothing that was saved is lost, and the next turn makes up for it") {
  ProbedTalk probed;
  with_every_fault([&](const CallFault& fault) {
    probed.reset();
    arm(fault);
    const auto turn = probed.talk.turn(ProbedTalk::next);
    const auto count = disarm();
    const auto loaded = load_manifest(probed.store, probed.talk.folder);
    REQUIRE(loaded);
    const std::size_t rows = loaded->manifest.rows;
    REQUIRE((rows == ProbedTalk::saved || rows == ProbedTalk::next));
    if (turn || turn.error().message.starts_with("saved, but")) REQUIRE(rows == ProbedTalk::next);
    if (!turn) {
      REQUIRE(is_sentence(turn.error().message));
      const bool told = turn.error().message.starts_with("saved, but") ||
                        turn.error().message.find("cannot be told") != std::string::npos;
      if (!told) REQUIRE(rows == ProbedTalk::saved);
      // What could be removed at once was.
      if (!told && fault.once) REQUIRE(probed.has_no_leftovers());
    }
    if (fault.once && fault.number == EINTR) REQUIRE(turn);
    REQUIRE(verify_conversation(probed.store, probed.talk.folder)->problems.empty());
    const std::string wrong = probed.goes_on();
    REQUIRE_MESSAGE(wrong.empty(), wrong);
    return count.hit;
  });
}

TEST_CASE("whichever call of a first turn fails, nothing is left that the next one does not remove") {
  ProbedTalk probed;
  with_every_fault([&](const CallFault& fault) {
    std::filesystem::remove_all(probed.store.path() / probed.talk.folder);
    arm(fault);
    const auto turn = probed.talk.turn(ProbedTalk::saved);
    const auto count = disarm();
    const auto loaded = load_manifest(probed.store, probed.talk.folder);
    if (loaded) REQUIRE(loaded->manifest.rows == ProbedTalk::saved);
    if (!loaded) REQUIRE(loaded.error().code == ErrorCode::not_found);
    if (turn) REQUIRE(loaded);
    if (!turn) REQUIRE(is_sentence(turn.error().message));
    if (fault.once && fault.number == EINTR) REQUIRE(turn);
    const std::string wrong = probed.goes_on();
    REQUIRE_MESSAGE(wrong.empty(), wrong);
    return count.hit;
  });
}

TEST_CASE("whichever call of a restore fails, the rows are right or it says why, and what is saved stays") {
  ProbedTalk probed;
  probed.reset();
  auto options = probed.talk.options;
  options.read_only = true;
  with_every_fault([&](const CallFault& fault) {
    std::vector<float>& logits = probed.talk.logits;
    const auto tokens = std::span(probed.talk.tokens).first(ProbedTalk::next);
    std::fill(logits.begin(), logits.end(), 0.0F);
    arm(fault);
    auto opened = test::ToyTalk::Talk::open(probed.talk.model, probed.talk.store, "a talk", options);
    const auto restored = opened ? opened->advance(tokens, logits) : propagate(opened);
    const auto count = disarm();
    if (restored) {
      REQUIRE(probed.talk.is_right(ProbedTalk::next));
      if (restored->repaired_rows > 0 || restored->recomputed_all) REQUIRE(!restored->reasons.empty());
      for (const std::string& why : restored->reasons) REQUIRE(is_sentence(why));
    } else {
      REQUIRE(is_sentence(restored.error().message));
    }
    if (fault.once && fault.number == EINTR) REQUIRE((restored && restored->reasons.empty()));
    REQUIRE(probed.talk.manifest().rows == ProbedTalk::saved);
    REQUIRE(probed.has_no_leftovers());
    return count.hit;
  });
  CHECK(probed.goes_on().empty());
}

TEST_CASE(
    "whichever call of a verification fails, it finds no damage that is not there, and says what it did not see") {
  ProbedTalk probed;
  probed.reset();
  with_every_fault([&](const CallFault& fault) {
    arm(fault);
    const auto found = verify_conversation(probed.store, probed.talk.folder);
    const auto count = disarm();
    if (!found) REQUIRE(is_sentence(found.error().message));
    // What the medium fails to give is damage, and of what it failed to list, it lists nothing.
    if (found && fault.number != EIO) REQUIRE(found->problems.empty());
    for (const std::string& what : found ? found->unread : std::vector<std::string>{}) REQUIRE(is_sentence(what));
    if (fault.once && fault.number == EINTR) REQUIRE((found && found->problems.empty() && found->unread.empty()));
    REQUIRE(probed.has_no_leftovers());
    return count.hit;
  });
  CHECK(probed.goes_on().empty());
}

TEST_CASE("whichever call of opening a store fails, it is opened the next time") {
  test::ProbeDirectory directory;
  with_every_fault([&](const CallFault& fault) {
    std::filesystem::remove_all(directory.path / "some");
    const auto open = [&] { return FileStore::open(directory.path / "some" / "store"); };
    arm(fault);
    const auto opened = open();
    const auto count = disarm();
    if (!opened) REQUIRE(is_sentence(opened.error().message));
    if (fault.once && fault.number == EINTR) REQUIRE(opened);
    REQUIRE(open());
    return count.hit;
  });
}

TEST_CASE("whichever call of reading a key fails, it says why, and the key is read the next time") {
  test::ProbeDirectory directory;
  const auto path = directory.path / "key";
  const std::string bytes = "0123456789abcdef0123456789abcdef";
  std::ofstream(path) << bytes;
  std::filesystem::permissions(path, std::filesystem::perms::owner_read);
  const auto is_whole = [&](const Result<EncryptionKey>& key) {
    return key && std::ranges::equal(key->bytes(), std::as_bytes(std::span(bytes)));
  };
  with_every_fault([&](const CallFault& fault) {
    arm(fault);
    const auto key = read_encryption_key(path);
    const auto count = disarm();
    if (key) REQUIRE(is_whole(key));
    if (!key) REQUIRE(is_sentence(key.error().message));
    REQUIRE(is_whole(read_encryption_key(path)));
    return count.hit;
  });
  arm({.kind = CallFault::Kind::halve, .once = false});
  CHECK(is_whole(read_encryption_key(path)));
  disarm();
}

TEST_CASE("writes and reads that do half of what was asked for are gone on with") {
  ProbedTalk probed;
  for (const bool once : {true, false}) {
    probed.reset();
    arm({.kind = CallFault::Kind::halve, .once = once});
    REQUIRE(probed.talk.turn(ProbedTalk::next));
    disarm();
    CHECK(probed.talk.is_right(ProbedTalk::next));
    CHECK(probed.goes_on().empty());
  }
}

TEST_CASE("whichever call of an erase fails, the next erase finishes it") {
  ProbedTalk probed;
  const auto erase = [&]() -> Status {
    const auto lock = probed.store.lock(probed.talk.folder);
    if (!lock) return propagate(lock);
    return erase_conversation(probed.store, probed.talk.folder);
  };
  with_every_fault([&](const CallFault& fault) {
    probed.reset();
    arm(fault);
    const Status erased = erase();
    const auto count = disarm();
    const auto loaded = load_manifest(probed.store, probed.talk.folder);
    if (!erased) REQUIRE(is_sentence(erased.error().message));
    if (fault.once && fault.number == EINTR) REQUIRE(erased);
    if (loaded) {  // as if nothing had happened
      REQUIRE_FALSE(erased);
      REQUIRE(verify_conversation(probed.store, probed.talk.folder)->problems.empty());
    } else {
      REQUIRE(loaded.error().code == ErrorCode::not_found);
    }
    REQUIRE(erase());
    REQUIRE(probed.files().empty());
    return count.hit;
  });
}

/// Kills `act` before its N-th call, for every N, and calls check() after each.
template <class Act, class Check>
void kill_at_every_call(ProbedTalk& probed, Act&& act, Check&& check) {
  for (std::uint64_t call = 0;; ++call) {
    probed.reset();
    const int ended = in_a_child([&] {
      arm({.kind = CallFault::Kind::kill, .first = call});
      return act() ? 0 : 1;
    });
    CAPTURE(call);
    REQUIRE((ended == 0 || ended == 128 + SIGKILL));
    check();
    if (ended == 0) break;
  }
}

/// Kills `act` after random times, and calls check() after each.
template <class Act, class Check>
void kill_at_random(ProbedTalk& probed, std::size_t kills, Act&& act, Check&& check) {
  std::mt19937 random(1);
  std::uniform_int_distribution<useconds_t> delay(0, 6000);
  for (std::size_t kill = 0; kill < kills; ++kill) {
    probed.reset();
    const pid_t child = test::start_child([&] { return act() ? 0 : 1; });
    ::usleep(delay(random));
    ::kill(child, SIGKILL);
    const int ended = test::status_of(child);
    REQUIRE((ended == 0 || ended == 128 + SIGKILL));
    check();
  }
}

TEST_CASE("a turn that is killed anywhere leaves the old state or the new one, and the next turn sweeps up") {
  ProbedTalk probed;
  const auto turn = [&] { return probed.talk.turn(ProbedTalk::next).has_value(); };
  const auto check = [&] {
    const auto loaded = load_manifest(probed.store, probed.talk.folder);
    REQUIRE(loaded);
    REQUIRE((loaded->manifest.rows == ProbedTalk::saved || loaded->manifest.rows == ProbedTalk::next));
    REQUIRE(verify_conversation(probed.store, probed.talk.folder)->problems.empty());
    const std::string wrong = probed.goes_on();
    REQUIRE_MESSAGE(wrong.empty(), wrong);
  };
  kill_at_every_call(probed, turn, check);
  kill_at_random(probed, test::probes(20), turn, check);
}

TEST_CASE("a first turn that is killed anywhere leaves nothing that the next one does not remove") {
  ProbedTalk probed;
  for (std::uint64_t call = 0;; ++call) {
    std::filesystem::remove_all(probed.store.path() / probed.talk.folder);
    const int ended = in_a_child([&] {
      arm({.kind = CallFault::Kind::kill, .first = call});
      return probed.talk.turn(ProbedTalk::saved) ? 0 : 1;
    });
    REQUIRE((ended == 0 || ended == 128 + SIGKILL));
    const std::string wrong = probed.goes_on();
    REQUIRE_MESSAGE(wrong.empty(), wrong);
    if (ended == 0) break;
  }
}

TEST_CASE("an erase that is killed anywhere is finished by the next one, or by a new conversation") {
  ProbedTalk probed;
  const auto erase = [&] {
    const auto lock = probed.store.lock(probed.talk.folder);
    return lock && erase_conversation(probed.store, probed.talk.folder);
  };
  bool by_a_turn = false;
  const auto check = [&] {
    // What is left without a manifest is seen; a lock alone is nothing.
    const auto found = verify_conversation(probed.store, probed.talk.folder);
    REQUIRE(found.has_value() == !probed.files().empty());
    if (found) REQUIRE(found->problems.empty());
    by_a_turn = !by_a_turn;
    if (by_a_turn) {
      const std::string wrong = probed.goes_on();
      REQUIRE_MESSAGE(wrong.empty(), wrong);
    } else {
      REQUIRE(erase());
      REQUIRE(probed.files().empty());
      REQUIRE(probed.store.list("").value().empty());
    }
  };
  kill_at_every_call(probed, erase, check);
  kill_at_random(probed, test::probes(20), erase, check);
}

}  // namespace
}  // namespace krul
