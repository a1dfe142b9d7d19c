// A process saves and erases talks and tells each step; it is killed at a random moment, and what is there then has to
// be what it was told or what it was doing. KRUL_CRASH_ROUNDS=N kills N times.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <random>
#include <vector>

#include "crash/saved_talks.hpp"
#include "probes/probe_support.hpp"
#include "support/system_calls.hpp"

namespace krul {
namespace {

using test::FoundTalk;
using test::SavedTalks;
using test::TalkState;
using Random = std::mt19937_64;

constexpr std::size_t talks = 3, bystander = talks;  // the last talk is another process's

/// What a process tells of its work, in one piece.
struct Told {
  bool done = false;  ///< else it begins
  std::size_t talk = 0;
  TalkState state;     ///< that it saves
  Checksum rows = {};  ///< once that is done
};

class Pipe {
 public:
  Pipe() { REQUIRE(::pipe2(ends_.data(), O_CLOEXEC) == 0); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close_reader();
    close_writer();
  }
  void close_reader() { end(0); }
  void close_writer() { end(1); }
  /// Whether nobody is left who could tell anything, and nothing was told.
  [[nodiscard]] bool is_ended() const {
    pollfd reader{.fd = ends_[0], .events = POLLIN, .revents = 0};
    return ::poll(&reader, 1, 0) == 1;
  }
  [[nodiscard]] bool tell(const Told& told) const { return ::write(ends_[1], &told, sizeof told) == sizeof told; }
  /// The next that is told; false once nobody is left to tell anything.
  [[nodiscard]] bool hear(Told& told) const {
    ssize_t count = 0;
    while ((count = ::read(ends_[0], &told, sizeof told)) < 0 && errno == EINTR) continue;
    return count == sizeof told;
  }

 private:
  void end(std::size_t which) {
    if (ends_[which] >= 0) ::close(ends_[which]);
    ends_[which] = -1;
  }
  std::array<int, 2> ends_{};
};

/// What comes after a state: most often more of its text, sometimes nothing, and then another text.
TalkState next_state(const TalkState& now, Random& random) {
  const bool ends = now.tokens + 24 > SavedTalks::longest || (now.tokens > 0 && random() % 6 == 0);
  if (ends) return {now.text + 1, 0};
  return {now.text, now.tokens + 1 + random() % 24};
}

int failed(const Error& why) {
  std::fprintf(stderr, "%s\n", why.message.c_str());
  return 1;
}

/// Saves and erases until it is killed; its result says what it could not do.
int work(const std::filesystem::path& path, std::vector<TalkState> states, SavedTalks& saved, Random random,
         const Pipe& pipe) {
  auto store = FileStore::open(path);
  if (!store) return 2;
  while (true) {
    const std::size_t talk = random() % talks;
    Told told{.talk = talk, .state = next_state(states[talk], random)};
    const auto begin = [&] { static_cast<void>(pipe.tell(told)); };
    if (told.state.tokens == 0) {
      begin();
      if (const Status erased = SavedTalks::erase(*store, talk); !erased) return failed(erased.error());
    } else {
      const auto rows = saved.save(*store, talk, told.state, begin);
      if (!rows) return failed(rows.error());
      told.rows = *rows;
    }
    told.done = true;
    if (!pipe.tell(told)) return 6;
    states[talk] = told.state;
  }
}

/// Saves and erases a talk of its own until it is told to end: nobody else's death may touch that.
int stand_by(const std::filesystem::path& path, SavedTalks& saved, const Pipe& stop) {
  auto store = FileStore::open(path);
  if (!store) return 2;
  Random random(7);
  TalkState state;
  while (!stop.is_ended()) {
    state = next_state(state, random);
    if (state.tokens == 0) {
      if (const Status erased = SavedTalks::erase(*store, bystander); !erased) return failed(erased.error());
    } else if (const auto rows = saved.save(*store, bystander, state); !rows) {
      return failed(rows.error());
    }
    const FoundTalk found = saved.look(*store, bystander, std::span(&state, 1));
    if (!found.wrong.empty()) return failed({ErrorCode::io, found.wrong});
  }
  return 0;
}

TEST_CASE("after kill -9 at any moment each conversation is what was acknowledged, or what was being done, whole") {
  const test::ProbeDirectory directory;
  const auto path = directory.path / "store";
  SavedTalks saved;
  Random random(1);
  const std::size_t rounds = test::crash_rounds(200);
  std::vector<TalkState> states(talks);
  std::size_t inside = 0, acknowledged = 0, new_states = 0;

  Pipe stop;
  const pid_t other = test::start_child([&] {
    stop.close_writer();
    return stand_by(path, saved, stop);
  });
  for (std::size_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    Pipe pipe;
    const std::size_t wanted = random() % 8;
    const std::uint64_t moment = random();
    const Random own(random());
    const pid_t child = test::start_child([&] { return work(path, states, saved, own, pipe); });
    pipe.close_writer();
    std::optional<Told> begun;
    std::size_t heard = 0;
    const auto hear = [&] {
      Told told;
      if (!pipe.hear(told)) return false;
      ++heard;
      begun = told.done ? std::nullopt : std::optional(told);
      if (!told.done) return true;
      states[told.talk] = told.state;
      ++acknowledged;
      if (told.state.tokens > 0) REQUIRE(told.rows == saved.rows(told.talk, told.state));
      return true;
    };
    while (heard < wanted && hear()) continue;
    constexpr std::uint64_t of_a_save = 250, of_all = 3000;  // microseconds
    ::usleep(static_cast<useconds_t>(moment % (begun ? of_a_save : of_all)));
    ::kill(child, SIGKILL);
    REQUIRE(test::status_of(child) == 128 + SIGKILL);
    while (hear()) continue;
    inside += begun ? 1 : 0;

    FileStore store = FileStore::open(path).value();
    for (std::size_t talk = 0; talk < talks; ++talk) {
      CAPTURE(talk);
      std::vector<TalkState> expected = {states[talk]};
      if (begun && begun->talk == talk) expected.push_back(begun->state);
      const auto is_right = [&](std::span<const TalkState> states_now) {
        const FoundTalk found = saved.look(store, talk, states_now);
        REQUIRE_MESSAGE(found.wrong.empty(), found.wrong);
        REQUIRE((found.state && found.is_whole && found.is_loaded));
        return *found.state;
      };
      const TalkState now = is_right(expected);
      if (now != states[talk]) ++new_states;
      states[talk] = now;
      if (random() % 2 == 0) continue;  // it is left to the next process
      REQUIRE(saved.finish(store, talk));
      const std::string folder = SavedTalks::folder(talk);
      REQUIRE(is_right(std::span(&now, 1)) == now);
      REQUIRE(store.dead_writes(folder).empty());
      const auto left = store.list(folder).value().size();
      REQUIRE(left == (now.tokens == 0 ? 0 : load_manifest(store, folder)->manifest.objects.size() + 2));
      REQUIRE(std::filesystem::exists(path / folder) == (now.tokens > 0));
    }
    static_cast<void>(store.dead_writes());  // which holds the lock of each new file for a moment
  }
  stop.close_writer();
  REQUIRE(test::status_of(other) == 0);
  MESSAGE(rounds << " kills, " << inside << " of them inside a save or an erase, " << new_states
                 << " of these in force nevertheless; " << acknowledged << " acknowledged before");
}

TEST_CASE("a sweep takes nothing away that another process is writing, whether or not that holds the folder's lock") {
  const test::ProbeDirectory directory;
  FileStore store = FileStore::open(directory.path, {.durability = Durability::none}).value();
  const std::string folder(32, 'a');
  REQUIRE(store.put(folder + "/object", {}));
  Pipe stop;
  const test::CallFault late{.kind = test::CallFault::Kind::wait, .once = false, .number = 1000};
  const pid_t sweeper = test::start_child([&] {
    stop.close_writer();
    test::arm(late);
    while (!stop.is_ended())
      if (!store.lock(folder)) return 1;
    return 0;
  });
  const std::vector<std::byte> bytes(5000, std::byte{1});
  test::arm(late);
  for (std::size_t i = 0; i < 10 * test::crash_rounds(200); ++i) {
    const Status put = store.put(folder + "/object", bytes);
    REQUIRE_MESSAGE(put, put.error().message);
  }
  test::disarm();
  stop.close_writer();
  REQUIRE(test::status_of(sweeper) == 0);
}

}  // namespace
}  // namespace krul
